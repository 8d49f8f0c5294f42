"""Build the table's keys from ids, names, numbers, scores and times, and parse them.

No other module joins or splits the text of a key. The formats are a contract with six rules, and each rule is a
property test in ``tests/property/test_keys.py``: only this module builds keys; two entities never share a key; lexical
order is the intended order; no pattern's prefix matches another entity; ``parse(build(x)) == x``; nothing is
overwritten.

>>> from datetime import UTC, datetime
>>> EXECUTION.build("PRC001", "AGT001", "TL001", 2)
'PRC001#AGT001#TL001#002'
>>> EXECUTION.parse("PRC001#AGT001#TL001")
('PRC001', 'AGT001', 'TL001', 1)
>>> AGENT.build("AGT001"), AGENT_SCORE.build(2.5), TOOL.build("TL001"), TOOL_NAME.build("find_on_map")
('AGT001', 'AGTSCORE#00000002.500000', 'TL001', 'TL#find_on_map')
>>> DOMAIN.build("DMN001"), DOMAINS.build(), USER.build("USR001"), SESSION.build("SESS1")
('DMN001', 'Domain', 'USR001', 'SESS1')
>>> SESSION_ITEMS.build("USR001", "SESS1"), PROCESS.build("PRC001")
('USR001#SESS1', 'PRC001')
>>> MAPPING.build("cafe search"), MAPPINGS.build(0), MAPPINGS.build(3)
('UserPrcToolMapp#cafe search', 'UserPrcToolMapp', 'UserPrcToolMapp#003')
>>> REVIEW.build("r-1"), REVIEW_QUEUE.build("review"), REVIEW_DUE.build(datetime(2025, 6, 14, tzinfo=UTC))
('REVIEW#r-1', 'Review#review', '20250614000000000000')
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
from functools import lru_cache
from os.path import commonprefix
from typing import Any, Generic, NewType, Protocol, TypeVarTuple

from agentmodel.exceptions import KeyFormatError, ValidationError

__all__ = [
    "AGENT", "AGENT_SCORE", "DOMAIN", "DOMAINS", "EXECUTION", "MAPPING", "MAPPINGS", "PROCESS", "REVIEW", "REVIEW_DUE",
    "REVIEW_QUEUE", "SESSION", "SESSION_ITEMS", "TOOL", "TOOL_NAME", "USER", "KeyFormat", "KeyText", "check_id",
    "id_of", "name_of", "new_session_id", "parse_time", "process_id", "stable_id",
]  # fmt: skip

KeyText = NewType("KeyText", str)
"""The text of a whole key, as DynamoDB stores it; only `KeyFormat.build` makes it."""

_Ts = TypeVarTuple("_Ts")

_PK_BYTES = 2048  # DynamoDB's limit for a partition key, in UTF-8 bytes
_SK_BYTES = 1024  # DynamoDB's limit for a sort key
_MAX_TOKEN = 128  # characters of an id after its prefix
SCORE_LIMIT = 10**8  # scores have eight integer digits
SCORE_DIGITS = 6  # scores have six decimals

_SEPARATOR = "#"
_AFTER_SEPARATOR = chr(ord(_SEPARATOR) + 1)  # no id contains it, so it ends a range that starts after a separator
_LAST = "\U0010ffff"  # sorts after every other character
_PUNCTUATION = "-_.:@+=~"
_PLAIN_TOKEN = re.compile(r"[A-Za-z0-9\-_.:@+=~]{1,128}")
_NUMBERED_ID = re.compile(r"(DMN|AGT|TL|USR|SESS|PRC)[0-9]")
_NUMBER = re.compile(r"[0-9]{3}|[A-Z][1-9][0-9]*")
_SCORE = re.compile(r"[0-9]{8}\.[0-9]{6}")
_LEGACY_SCORE = re.compile(r"[0-9]{1,8}(?:\.[0-9]{1,6})?")
_TIME = re.compile(r"[0-9]{14,20}")
_KINDS = {  # what has ids, by their prefix, with the name in an example
    "DMN": ("a domain", "support"),
    "AGT": ("an agent", "finder"),
    "TL": ("a tool", "search"),
    "USR": ("a user", "mina"),
    "SESS": ("a session", "1"),
    "PRC": ("a process", "001"),
}

NAMED = ("AGT", "DMN", "TL", "USR")
"""The prefixes of the ids that are made of names, see `id_of`."""

_WORDS = ("METADATA", "Domain", "UserPrcToolMapp", "PUBLISH", "ERASED", "ROUTING")  # keys that are a word
_DEFAULT_DOMAIN = "agents"  # of agents whose domain is not given


# Ids


def check_id(field: str, value: object, prefix: str) -> str:
    """Check an id and return it.

    An id is a prefix and a token of 1 to 128 letters (of any script), digits and ``-_.:@+=~``, in Unicode NFC.

    Args:
        field: The name of the value in an error message.
        value: The id.
        prefix: ``DMN``, ``AGT``, ``TL``, ``USR``, ``SESS`` or ``PRC``.

    Raises:
        ValidationError: The value is not such an id; the message names the character or the rule.

    >>> check_id("agent_id", "AGT001", "AGT")
    'AGT001'
    """
    if not isinstance(value, str):
        raise ValidationError(field, value, f"must be text such as {prefix}001")
    if not value.startswith(prefix):
        raise ValidationError(field, value, f"must start with {prefix}, such as {prefix}001")
    token = value[len(prefix) :]
    if _PLAIN_TOKEN.fullmatch(token):
        return value
    _reject_token(field, value, prefix)
    return value


def _reject_token(field: str, value: str, prefix: str) -> None:
    token = value[len(prefix) :]
    if not token:
        raise ValidationError(
            field, value, f"must have 1 to {_MAX_TOKEN} characters after {prefix}, such as {prefix}001"
        )
    if len(token) > _MAX_TOKEN:
        raise ValidationError(
            field, value, f"must have at most {_MAX_TOKEN} characters after {prefix}, not {len(token)}"
        )
    for index, char in enumerate(token):
        category = unicodedata.category(char)
        is_letter = category[0] == "L" or category == "Nd" or (category[0] == "M" and index > 0)
        if not (is_letter or char in _PUNCTUATION):
            name = unicodedata.name(char, f"U+{ord(char):04X}")
            raise ValidationError(
                field, value, f"must hold only letters, digits and {_PUNCTUATION}, not {char!r} ({name})"
            )
    if not unicodedata.is_normalized("NFC", value):
        raise ValidationError(field, value, "must be in Unicode NFC: pass unicodedata.normalize('NFC', …) of it")


def process_id(number: int) -> str:
    """Return the id of the process with this number.

    >>> process_id(2), process_id(1000)
    ('PRC002', 'PRCA1000')
    """
    return f"PRC{format_number(number)}"


def new_session_id(started: datetime, *, token: str | None = None) -> str:
    """Return a session id that sorts by its start.

    ``token`` distinguishes sessions that start at the same time; by default it is random.

    >>> from datetime import UTC, datetime
    >>> new_session_id(datetime(2025, 6, 14, 14, 5, 30, tzinfo=UTC), token="k3v9")
    'SESS20250614140530000000-k3v9'
    """
    return check_id("session_id", f"SESS{format_time('started', started)}-{token or secrets.token_hex(5)}", "SESS")


def imported_session_id(started: datetime | None, *names: str) -> str:
    """Return the id for a session of another system, which has these ``names`` there. The id sorts by its start.

    Without a start the session sorts before every session with one.

    >>> imported_session_id(None, "retail", "0247")
    'SESS0-001197babf00'
    """
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]
    return check_id("session_id", f"SESS{'0' if started is None else format_time('started', started)}-{digest}", "SESS")


def id_of(prefix: str, name: object, *within: str, field: str = "id") -> str:
    """Return the id of a user, agent, tool or domain that is given by its id or by its name.

    This is the rule of names. A text that begins with the prefix is an id. Any other is a name, also a UUID, and the id
    is made of the prefix and the name (by `stable_id`, where the name is more than a valid token). An agent has its
    name within a domain: ``support/finder``; ``finder`` alone is in the domain ``agents``, in which integrations are
    unless they are given another.

    Args:
        prefix: ``USR``, ``AGT``, ``TL`` or ``DMN``.
        name: The id or the name.
        within: The domain of an agent, by name or id, where it is given apart; the name has no ``/`` of its own then.
        field: The name of the value in an error message.

    Raises:
        ValidationError: It begins as an id does and is none; it is an id of another kind, such as ``AGT001`` for a
            user; or it is no name: no text, blank, or with blanks around it or control characters, as a line of a file
            has.

    >>> id_of("USR", "mina"), id_of("USR", "USRmina"), id_of("DMN", "support"), id_of("TL", "search")
    ('USRmina', 'USRmina', 'DMNsupport', 'TLsearch')
    >>> id_of("AGT", "finder", "support") == id_of("AGT", "support/finder") == id_of("AGT", "finder", "DMNsupport")
    True
    >>> id_of("AGT", "support/finder"), id_of("AGT", "finder") == id_of("AGT", "agents/finder")
    ('AGTsupport-finder~86eb13052ef8', True)
    """
    what, example = _KINDS[prefix]
    if not isinstance(name, str) or not name.strip():
        raise ValidationError(
            field, name, f"must be the id or the name of {what}, such as {prefix}{example} or {example}"
        )
    if name.startswith(prefix) and name != prefix:
        return check_id(field, name, prefix)
    other = _NUMBERED_ID.match(name)
    if other:
        raise ValidationError(
            field, name, f"must be the id or the name of {what}, not an id of {_KINDS[other[1]][0]}; "
            f"if it is a name, write {prefix}{name}",
        )  # fmt: skip
    if name != name.strip() or any(unicodedata.category(char) == "Cc" for char in name):
        raise ValidationError(field, name, "must have no blanks around it and no control characters: leave them out")
    return _named(prefix, name, within, field)


def lenient_id_of(prefix: str, name: str, *within: str) -> str:
    """Return the same as `id_of`, and an id also for what that refuses: frameworks name tools and agents as they like.

    >>> lenient_id_of("TL", "TL;DR"), lenient_id_of("USR", "USRmina")
    ('TLTL-DR~4f38803d0e77', 'USRmina')
    """
    for each in (name, *within):
        if not isinstance(each, str):
            raise ValidationError("id", each, f"must be text: the id or the name of {_KINDS[prefix][0]}")
    return _lenient_id_of(prefix, name, within)


@lru_cache(8192)  # names of users, agents and tools are given with each call of a tool
def _lenient_id_of(prefix: str, name: str, within: tuple[str, ...]) -> str:
    if name.startswith(prefix) and len(name) > len(prefix):
        try:
            return check_id("id", name, prefix)
        except ValidationError:
            pass  # a name that only begins like an id
    return _named(prefix, name, within, None)


def _named(prefix: str, name: str, within: tuple[str, ...], field: str | None) -> str:
    if prefix != "AGT":
        return stable_id(prefix, name)
    if not within:
        domain, separator, rest = name.partition("/")
        within, name = ((domain,), rest) if separator and domain and rest else ((_DEFAULT_DOMAIN,), name)
    domain = within[0]
    if _PLAIN_TOKEN.fullmatch(domain) and domain.startswith("DMN") and len(domain) > 3:
        if "~" not in domain:
            domain = domain[3:]
        elif field is not None:  # its name was more than a token, and the id has no more than a digest of it
            raise ValidationError(
                field, name, f"must be an id where the domain is given by the id {domain}, of which the name cannot "
                "be read; or give the domain by its name",
            )  # fmt: skip
    return stable_id(prefix, domain, name.removeprefix(f"{domain}/") or name)


def name_of(prefix: str, given: str) -> str:
    """Return the name of what is given by its name or its id, for people and models to read.

    An id of digits, or one that was made of more than a name, is returned as it is: its name is in the catalogue only.

    >>> name_of("USR", "USRmina"), name_of("USR", "mina"), name_of("TL", "TL001")
    ('mina', 'mina', 'TL001')
    """
    name = given.removeprefix(prefix)
    return given if not name or "~" in name or name[0].isdigit() else name


def stable_id(prefix: str, *names: str) -> str:
    """Return an id for something that has names but no id. The same names always give the same id, others another.

    A single name that is a valid token without ``~`` is used as it is. Anything else is reduced to its valid
    characters, followed by ``~`` and twelve hexadecimal digits of the SHA-256 of the names.

    >>> stable_id("TL", "get_order_details")
    'TLget_order_details'
    >>> stable_id("AGT", "retail", "gpt-5/toolorchestra")
    'AGTretail-gpt-5-toolorchestra~118c1435e61d'
    """
    return _stable_id(prefix, tuple(_nfc("name", name) for name in names))


@lru_cache(8192)  # a name is given with each call of a tool
def _stable_id(prefix: str, names: tuple[str, ...]) -> str:
    if len(names) == 1 and _PLAIN_TOKEN.fullmatch(names[0]) and "~" not in names[0]:
        return prefix + names[0]
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]
    safe = (char if _PLAIN_TOKEN.fullmatch(char) or char.isalpha() else "-" for char in "-".join(names))
    words = [word for word in "".join(safe).replace("~", "-").split("-") if word]
    slug = unicodedata.normalize("NFC", "-".join(words)[:80]).strip("-")
    return check_id("id", f"{prefix}{slug}~{digest}", prefix)


# Numbers, scores and times


def format_number(number: int, *, field: str = "number") -> str:
    """Return a number as text that sorts like the number: three digits, or a letter for the number of digits first.

    >>> [format_number(n) for n in (1, 999, 1000, 10000)]
    ['001', '999', 'A1000', 'B10000']

    Raises:
        ValidationError: The number is negative, or not a whole number.
    """
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 10**29:
        raise ValidationError(field, number, "must be a whole number from 0 up")
    digits = str(number)
    return f"{number:03d}" if len(digits) <= 3 else f"{chr(ord('A') + len(digits) - 4)}{digits}"


def parse_number(text: str) -> int:
    """Return the number of which `format_number` made ``text``.

    >>> parse_number("A1000")
    1000
    """
    if _NUMBER.fullmatch(text):
        number = int(text.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        if format_number(number) == text:
            return number
    raise KeyFormatError("number", text, "must be a number as in keys, such as 002 or A1000")


def format_score(score: float, *, field: str = "score") -> str:
    """Return a score as text that sorts like the score, rounded to eight integer and six decimal digits.

    >>> format_score(60), format_score(0.5)
    ('00000060.000000', '00000000.500000')

    Raises:
        ValidationError: The score is negative, 10⁸ or more, or not a number.
    """
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score < SCORE_LIMIT:
        raise ValidationError(field, score, f"must be a number from 0 to below {SCORE_LIMIT}")
    text = f"{score + 0.0:015.6f}"
    if len(text) > 15:
        raise ValidationError(field, score, f"must be a number from 0 to below {SCORE_LIMIT}")
    return text


def _parse_score(text: str) -> float:
    """Return the score in ``text``; the sample's ``60`` without padding is read too.

    >>> _parse_score("00000060.000000"), _parse_score("60")
    (60.0, 60.0)
    """
    if _SCORE.fullmatch(text) or _LEGACY_SCORE.fullmatch(text):
        return float(text)
    raise KeyFormatError("score", text, "must be eight digits, a point and six digits, such as 00000060.000000")


def format_time(field: str, moment: datetime) -> str:
    """Return a time as 20 digits in UTC: ``YYYYMMDDHHMMSS`` and microseconds.

    >>> from datetime import UTC, datetime
    >>> format_time("started", datetime(2025, 6, 14, 23, 5, 30, 250000, tzinfo=UTC))
    '20250614230530250000'

    Raises:
        ValidationError: The time has no time zone.
    """
    if not isinstance(moment, datetime):
        raise ValidationError(field, moment, "must be a datetime with a time zone")
    if moment.tzinfo is None:
        raise ValidationError(field, moment, "must have a time zone, as datetime.now(timezone.utc) has")
    try:
        utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    except OverflowError:
        raise ValidationError(field, moment, "must lie between the years 1 and 9999 in UTC") from None
    parts = utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond
    return "%04d%02d%02d%02d%02d%02d%06d" % parts  # noqa: UP031  # half the time of an f-string


def parse_time(text: str, *, field: str = "time") -> datetime:
    """Return the time in ``text``: 14 digits in UTC, and up to six of the fraction of a second.

    >>> parse_time("2025061414100223")
    datetime.datetime(2025, 6, 14, 14, 10, 2, 230000, tzinfo=datetime.timezone.utc)
    """
    rule = "must be 14 to 20 digits, YYYYMMDDHHMMSS and a fraction, in UTC"
    if not _TIME.fullmatch(text):
        raise KeyFormatError(field, text, rule)
    try:
        if len(text) == 20 and text[8:10] < "24":  # as `format_time` writes it; this is faster
            return datetime.fromisoformat(f"{text[:8]}T{text[8:14]}.{text[14:]}Z")
        return datetime(
            int(text[:4]), int(text[4:6]), int(text[6:8]), int(text[8:10]), int(text[10:12]), int(text[12:14]),
            int(text[14:].ljust(6, "0")) if len(text) > 14 else 0, tzinfo=UTC,
        )  # fmt: skip
    except ValueError as error:
        raise KeyFormatError(field, text, f"{rule}: {error}") from None


def mapping_partition(owner: str, partitions: int) -> int:
    """Return the index partition, of ``partitions``, for the mappings of a user. It never changes.

    >>> mapping_partition("USR001", 1)
    0
    """
    return zlib.crc32(owner.encode()) % partitions


# Free text


def _nfc(field: str, text: object) -> str:
    if not isinstance(text, str):
        raise ValidationError(field, text, "must be text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(field, text, f"must be Unicode without lone surrogates: {error.reason}") from None
    return unicodedata.normalize("NFC", text)


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("#", "%23") if "%" in text or "#" in text else text


def _unescape(text: str) -> str:
    plain = text.replace("%23", "#").replace("%25", "%") if "%" in text else text
    if _escape(plain) != text:
        raise KeyFormatError("text", text, "must escape # as %23 and % as %25, and nothing else")
    return plain


def last_text(prefix: str) -> str:
    """Return the greatest text with this beginning that a sort key can have.

    >>> last_text("TL")[:3], len(last_text("TL").encode()) <= 1024
    ('TL\U0010ffff', True)
    """
    return prefix + _LAST * ((_SK_BYTES - len(prefix.encode())) // len(_LAST.encode()))


def text_before(text: str) -> str:
    r"""Return the greatest text of a sort key that sorts before ``text``, which must not be empty.

    >>> text_before("TL2")[:4], text_before("a\x00")
    ('TL1\U0010ffff', 'a')
    """
    point = ord(text[-1]) - 1
    if point < 0:
        return text[:-1]
    return last_text(text[:-1] + chr(0xD7FF if 0xD800 <= point <= 0xDFFF else point))  # UTF-8 has no surrogates


def text_after(text: str) -> str:
    """Return the least text that sorts after ``text``."""
    return text + "\x00"


# Parts and formats


class _Part(Protocol):
    """Writes and reads one value inside a key."""

    field: str

    def build(self, value: Any, /) -> str | None:
        """Return the value's text; None leaves the part out, which only the last part of a format may do."""

    def parse(self, text: str | None, /) -> Any:
        """Return the value of a text; the text is None when the part was left out."""


class _IdentifierPart:
    """A part that is an id."""

    def __init__(self, field: str, prefix: str) -> None:
        self.field = field
        self.prefix = prefix

    def build(self, value: Any, /) -> str:
        """Check the id and return it."""
        return check_id(self.field, value, self.prefix)

    def parse(self, text: str | None, /) -> str:
        """Check the id and return it."""
        return check_id(self.field, text, self.prefix)


class _TextPart:
    """A part that is free text, in NFC, with the separator and the percent sign escaped."""

    def __init__(self, field: str) -> None:
        self.field = field

    def build(self, value: Any, /) -> str:
        text = _nfc(self.field, value)
        if not text:
            raise ValidationError(self.field, value, "must not be empty, because DynamoDB takes no empty index key")
        return _escape(text)

    def parse(self, text: str | None, /) -> str:
        if not text:
            raise KeyFormatError(self.field, text, "must not be empty")
        if _nfc(self.field, text) != text:
            raise KeyFormatError(self.field, text, "must be in Unicode NFC")
        return _unescape(text)


class _ScorePart:
    field = "score"

    def build(self, value: Any, /) -> str:
        return format_score(value)

    def parse(self, text: str | None, /) -> float:
        return _parse_score(text or "")


class _TimePart:
    def __init__(self, field: str) -> None:
        self.field = field

    def build(self, value: Any, /) -> str:
        return format_time(self.field, value)

    def parse(self, text: str | None, /) -> datetime:
        if text is None or len(text) != 20:
            raise KeyFormatError(self.field, text, "must have 20 digits")
        return parse_time(text, field=self.field)


class _CountPart:
    """A part that is a number, left out while it is ``first``: the first attempt, or the sample's only partition."""

    def __init__(self, field: str, *, first: int) -> None:
        self.field = field
        self.first = first

    def build(self, value: Any, /) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or value < self.first:
            raise ValidationError(self.field, value, f"must be a whole number from {self.first} up")
        return None if value == self.first else format_number(value, field=self.field)

    def parse(self, text: str | None, /) -> int:
        if text is None:
            return self.first
        number = parse_number(text)
        if number <= self.first:
            raise KeyFormatError(self.field, text, f"must be left out unless it is above {self.first}")
        return number


class KeyFormat(Generic[*_Ts]):
    """The format of one key: fixed words and parts, joined by ``#``.

    Attributes:
        name: The name of the format in error messages.
        fields: The names of the parts, in order.
        limit: The most UTF-8 bytes that DynamoDB takes.
        starts: The text with which every key of the format begins.

    >>> SESSION_ITEMS.form, SESSION_ITEMS.fields, SESSION_ITEMS.limit, MAPPING.starts
    ('<user_id>#<session_id>', ('user_id', 'session_id'), 2048, 'UserPrcToolMapp')
    """

    def __init__(self, name: str, *parts: str | _Part, limit: int) -> None:
        self.name = name
        self.limit = limit
        self._parts = parts
        self._values: tuple[_Part, ...] = tuple(part for part in parts if not isinstance(part, str))
        self.fields = tuple(part.field for part in self._values)
        self.starts = KeyText(_shape(parts[0])[0])

    def __repr__(self) -> str:
        return f"<KeyFormat {self.name}: {self.form}>"

    @property
    def form(self) -> str:
        """Return the format as people read it, such as ``<user_id>#<session_id>``."""
        return _SEPARATOR.join(part if isinstance(part, str) else f"<{part.field}>" for part in self._parts)

    def build(self, *values: *_Ts) -> KeyText:
        """Return the key of these values.

        Raises:
            ValidationError: A value does not have the form of its part, or the key is longer than DynamoDB takes.

        >>> EXECUTION.build("PRC001", "AGT001", "TL001", 1), MAPPING.build("cafe #1")
        ('PRC001#AGT001#TL001', 'UserPrcToolMapp#cafe %231')
        >>> AGENT.build("agent 1")
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.ValidationError: agent_id ('agent 1') must start with AGT, such as AGT001
        """
        return self._join(values, len(self._parts))

    def _join(self, values: tuple[Any, ...], parts: int) -> KeyText:
        rest = iter(values)
        texts = [part if isinstance(part, str) else part.build(next(rest)) for part in self._parts[:parts]]
        return self._checked_length(_SEPARATOR.join([text for text in texts if text is not None]))

    def parse(self, key: str) -> tuple[*_Ts]:
        """Return the values from which a key was built.

        Raises:
            KeyFormatError: The text is not a key of this format; the message names the part and the rule.

        >>> MAPPING.parse("UserPrcToolMapp#cafe %231")
        ('cafe #1',)
        >>> EXECUTION.parse("PRC001#AGT001")
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.KeyFormatError: execution key ('PRC001#AGT001') must have the form ...
        """
        if len(key) * 4 > self.limit and len(key.encode(errors="replace")) > self.limit:
            raise KeyFormatError(self.name, key, f"must have at most {self.limit} bytes of UTF-8")
        texts: list[str | None] = [*key.split(_SEPARATOR)]
        if len(texts) == len(self._parts) - 1 and isinstance(self._parts[-1], _CountPart):
            texts.append(None)
        if len(texts) != len(self._parts):
            raise KeyFormatError(self.name, key, f"must have the form {self.form}")
        values: list[Any] = []
        for part, text in zip(self._parts, texts, strict=True):
            if not isinstance(part, str):
                values.append(self._parsed(key, part, text))
            elif part != text:
                raise KeyFormatError(self.name, key, f"must have the form {self.form}")
        return tuple(values)

    def of_text(self, text: object) -> str:
        """Return the key that a text is, or that is made of a name where the key is an id and no more.

        Raises:
            KeyFormatError: It is neither; the message names the part and the rule.

        >>> USER.of_text("mina"), USER.of_text("USRmina"), SESSION.of_text("SESS1")
        ('USRmina', 'USRmina', 'SESS1')
        """
        if not isinstance(text, str):
            raise KeyFormatError(self.name, text, "must be text")
        (part, *rest), given = self._parts, str.__str__(text)
        named = _SEPARATOR not in given and given not in _WORDS and not rest
        if named and isinstance(part, _IdentifierPart) and part.prefix in NAMED:
            try:
                return id_of(part.prefix, given, field=part.field)
            except ValidationError:
                pass  # not a key either; that error says what a key is
        self.parse(given)
        return given

    def _parsed(self, key: str, part: _Part, text: str | None) -> Any:
        try:
            return part.parse(text)
        except ValidationError as error:
            raise KeyFormatError(self.name, key, f"cannot be read because its {part.field} {error.rule}") from None

    # The same as Python source, for generated code, whose values were checked when they were set

    def join_source(self, names: Sequence[str], scope: dict[str, Any]) -> str:
        """Return the source of an expression that builds a key from the variables ``names``.

        The values must have been checked: ids and scores are not checked again, free text and lengths are.

        Args:
            names: The variables that hold the values, in order.
            scope: Receives the functions that the expression calls.

        >>> SESSION_ITEMS.join_source(["u", "s"], {})
        "f'{u}#{s}'"
        """
        rest = iter(names)
        text = ""
        for index, part in enumerate(self._parts):
            separator = _SEPARATOR if index else ""
            if isinstance(part, _CountPart):
                text += _source_of_count(part, next(rest), separator, scope)
            else:
                text += separator
                text += _source_of_word(part) if isinstance(part, str) else _source_of_part(part, next(rest), scope)
        if self._max_bytes() <= self.limit:
            return f"f'{text}'"
        fitted = f"{_bind('fit', self._checked_length, scope)}(f'{text}')"
        short = self.short_source(names)
        return fitted if short is None else f"f'{text}' if {short} else {fitted}"

    def short_source(self, names: Sequence[str]) -> str | None:
        """Return the source of a condition that is true if the ids in the variables ``names`` make a key that fits.

        It is None for a format with other parts than words, ids and a number.

        >>> SESSION_ITEMS.short_source(["u", "s"])
        'len(u) + len(s) < 496'
        """
        if not all(isinstance(part, str | _IdentifierPart | _CountPart) for part in self._parts):
            return None
        ids = [name for name, part in zip(names, self._values, strict=True) if isinstance(part, _IdentifierPart)]
        # the bytes of separators, words and a number
        rest = sum(len(part) + 1 if isinstance(part, str) else 32 for part in self._parts)
        return f"{' + '.join(f'len({name})' for name in ids)} < {(self.limit - rest) // 4}"

    def split_source(self, text: str, names: Sequence[str]) -> list[str] | None:
        """Return the source of statements that parse the variable ``text`` into the variables ``names``.

        It is None for a format with other parts than words, ids and a last number. The ids are not checked. Any other
        text raises ValueError, and so does a text that contains the last number.

        >>> SESSION_ITEMS.split_source("pk", ["u", "s"])
        ["u, s, = pk.split('#')"]
        """
        if any(not isinstance(part, str | _IdentifierPart | _CountPart) for part in self._parts):
            return None
        rest = iter(names)
        lines, targets = [], []
        for index, part in enumerate(self._parts):
            if isinstance(part, _CountPart):
                lines.append(f"{next(rest)} = {part.first}")
            else:
                targets.append(f"_word{index}" if isinstance(part, str) else next(rest))
        lines.insert(0, f"{', '.join(targets)}, = {text}.split({_SEPARATOR!r})")
        for index, part in enumerate(self._parts):
            if isinstance(part, str):
                lines.append(f"if _word{index} != {part!r}: raise ValueError({self.name!r})")
        return lines

    def always_fits(self) -> bool:
        """Return whether values that were checked one by one always make a key that is valid and short enough.

        >>> PROCESS.always_fits(), MAPPING.always_fits()
        (True, False)
        """
        plain = all(isinstance(part, str | _IdentifierPart | _CountPart | _ScorePart) for part in self._parts)
        return plain and self._max_bytes() <= self.limit

    def _max_bytes(self) -> int:
        size = len(self._parts)
        for part in self._parts:
            if isinstance(part, str):
                size += len(part)
            elif isinstance(part, _IdentifierPart):
                size += len(part.prefix) + 4 * _MAX_TOKEN
            elif isinstance(part, _TextPart):
                size += self.limit
            else:
                size += 30  # a number, score or time
        return size

    def _checked_length(self, key: str) -> KeyText:
        if len(key) * 4 > self.limit and len(key.encode()) > self.limit:
            raise ValidationError(
                self.name, key, f"must have at most {self.limit} bytes of UTF-8, not {len(key.encode())}"
            )
        return KeyText(key)

    def prefix(self, *values: object, partial: str | None = None) -> KeyText:
        """Return the text with which every key with these leading values begins, for ``begins_with``.

        Args:
            values: The leading values. The prefix ends after the separator that follows them.
            partial: The beginning of the next value, if that is free text.

        Raises:
            ValidationError: The next part may be left out, so a prefix would miss keys or match those of others.

        >>> MAPPING.prefix(partial="cafe#")
        'UserPrcToolMapp#cafe%23'
        """
        taken = self._count_parts(len(values))
        key = self._join(values, taken)
        if taken < len(self._parts) and isinstance(self._parts[taken], _CountPart):
            raise ValidationError(
                self.name, key, f"cannot be a prefix because its {self.fields[-1]} may be left out: use within()"
            )
        if taken < len(self._parts):
            key = KeyText(key + _SEPARATOR if key else key)
        return KeyText(key + _escape(_nfc(self.name, partial))) if partial else key

    def within(self, *values: object) -> tuple[KeyText, KeyText]:
        """Return bounds for BETWEEN that contain every key with these leading values, and no other key.

        Raises:
            ValidationError: No leading value is given, and the format does not begin with a fixed word.

        >>> EXECUTION.within("PRC001")
        ('PRC001#', 'PRC001$')
        >>> EXECUTION.within("PRC001", "AGT001", "TL001")  # the first attempt has no number
        ('PRC001#AGT001#TL001', 'PRC001#AGT001#TL001$')
        """
        taken = self._count_parts(len(values))
        key = self._join(values, taken)
        if taken == len(self._parts):
            return key, key
        if not key:
            raise ValidationError(self.name, values, "must begin with the key's first part, because a range needs it")
        low = key if isinstance(self._parts[taken], _CountPart) else KeyText(key + _SEPARATOR)
        return low, KeyText(key + _AFTER_SEPARATOR)

    def span(self, *values: object) -> tuple[str, str]:
        """Return the lowest and the highest text that a key with these leading values can have; none need be given.

        >>> METADATA.span(), EXECUTION.span("PRC001")[0], TOOL.span()[0]
        (('METADATA', 'METADATA'), 'PRC001#', 'TL')
        """
        taken = self._count_parts(len(values))
        key = self._join(values, taken)
        if taken == len(self._parts):
            return key, key
        if isinstance(self._parts[taken], _CountPart):
            return key, last_text(key + _SEPARATOR)
        prefix = key + _SEPARATOR if key else self.starts
        return prefix, last_text(prefix)

    def lies_between(self, low: str, high: str) -> bool:
        """Return whether a key of this format could lie between two texts, both included.

        >>> PROCESS.lies_between(*EXECUTION.span("PRC001")), PROCESS.lies_between(*EXECUTION.span())
        (False, True)
        """
        if low != high:
            return self.begins_with(commonprefix((low, high)))  # noqa: RUF071  # characters are meant, not paths
        words = [(word, False) for word in low.split(_SEPARATOR)]
        return any(
            len(shape) == len(words) and all(_overlap(a, b) for a, b in zip(shape, words, strict=True))
            for shape in self._shapes()
        )

    def overlaps(self, other: KeyFormat[*tuple[Any, ...]]) -> bool:
        """Return whether a text could be a key of both formats.

        >>> AGENT.overlaps(USER), TOOL_NAME.overlaps(AGENT_SCORE), TEXT.overlaps(REVIEW_DUE)
        (False, False, True)
        """
        return any(
            len(ours) == len(theirs) and all(_overlap(a, b) for a, b in zip(ours, theirs, strict=True))
            for ours in self._shapes()
            for theirs in other._shapes()
        )

    def begins_with(self, prefix: str) -> bool:
        """Return whether a key of this format could begin with ``prefix``.

        >>> EXECUTION.begins_with("PRC"), TOOL.begins_with("PRC")
        (True, False)
        """
        wanted = prefix.split(_SEPARATOR)
        for shape in self._shapes():
            if len(shape) >= len(wanted):
                whole = all(_overlap(a, (text, False)) for a, text in zip(shape, wanted[:-1], strict=False))
                if whole and _can_begin(shape[len(wanted) - 1], wanted[-1]):
                    return True
        return False

    def _shapes(self) -> list[list[tuple[str, bool]]]:
        """Return, for each number of parts, what each part's text begins with and whether more may follow."""
        shape = [_shape(part) for part in self._parts]
        return [shape, shape[:-1]] if isinstance(self._parts[-1], _CountPart) else [shape]

    def _count_parts(self, values: int) -> int:
        seen = 0
        for index, part in enumerate(self._parts):
            if not isinstance(part, str):
                if seen == values:
                    return index
                seen += 1
        return len(self._parts)


def owner_of(partition: str) -> tuple[str, str]:
    """Return the user of a partition and its second part, such as the session; two empty texts where it has no user.

    The partition of what 0.1.0 copied during an outage belongs to the user of the session.

    >>> owner_of("USR001#SESS1"), owner_of("OUTAGE#USR001%23SESS1"), owner_of("AGT001")
    (('USR001', 'SESS1'), ('USR001', 'SESS1'), ('', ''))
    """
    if partition.startswith(f"{FENCE.starts}{_SEPARATOR}"):
        (partition,) = FENCE.parse(partition)
    user, _, rest = partition.partition(_SEPARATOR)
    return (user, rest) if user.startswith("USR") else ("", "")


def item_digest(partition: str, sort: str) -> str:
    """Return the digest of an item's keys; SQL's MD5 gives the same."""
    return hashlib.md5(f"{partition}{_SEPARATOR}{sort}".encode(), usedforsecurity=False).hexdigest()


def parse_unpadded_attempt(key: str) -> tuple[str, str, str, int]:
    """Return the parts of an execution key whose attempt is written without padding, as other writers may do.

    >>> parse_unpadded_attempt("PRC001#AGT001#TL001#2")
    ('PRC001', 'AGT001', 'TL001', 2)
    """
    head, _, attempt = key.rpartition(_SEPARATOR)
    if not re.fullmatch(r"[0-9]{1,9}", attempt) or int(attempt) < 1:
        raise KeyFormatError("execution key", key, "must end in an attempt number from 1 up")
    process_id, agent_id, tool_id, _ = EXECUTION.parse(head)
    return process_id, agent_id, tool_id, int(attempt)


def _shape(part: str | _Part) -> tuple[str, bool]:
    if isinstance(part, str):
        return part, False
    return (part.prefix, True) if isinstance(part, _IdentifierPart) else ("", True)


def _overlap(one: tuple[str, bool], other: tuple[str, bool]) -> bool:
    """Return whether a text could have both shapes."""
    (a, a_open), (b, b_open) = one, other
    if a_open and b_open:
        return a.startswith(b) or b.startswith(a)
    return a == b if a_open == b_open else (a if b_open else b).startswith(b if b_open else a)


def _can_begin(shape: tuple[str, bool], prefix: str) -> bool:
    text, more = shape
    return text.startswith(prefix) or (more and prefix.startswith(text))


def _bind(word: str, helper: Any, scope: dict[str, Any]) -> str:
    name = f"_{word}{len(scope)}"
    scope[name] = helper
    return name


def _source_of_word(word: str) -> str:
    return word.replace("\\", "\\\\").replace("'", "\\'").replace("{", "{{").replace("}", "}}")


def _source_of_part(part: _Part, name: str, scope: dict[str, Any]) -> str:
    if isinstance(part, _IdentifierPart):
        return f"{{{name}}}"
    if isinstance(part, _ScorePart):
        return f"{{{name}:015.6f}}"
    return f"{{{_bind('part', part.build, scope)}({name})}}"


def _source_of_count(part: _CountPart, name: str, separator: str, scope: dict[str, Any]) -> str:
    helper = _bind("part", lambda number: f"{separator}{part.build(number)}", scope)
    return f'{{"" if {name} == {part.first} else {helper}({name})}}'


DOMAIN: KeyFormat[str] = KeyFormat("domain key", _IdentifierPart("domain_id", "DMN"), limit=_PK_BYTES)
"""Partition of a domain; index partition of its agents and tools."""

AGENT: KeyFormat[str] = KeyFormat("agent key", _IdentifierPart("agent_id", "AGT"), limit=_PK_BYTES)
"""Partition of an agent and its tools."""

USER: KeyFormat[str] = KeyFormat("user key", _IdentifierPart("user_id", "USR"), limit=_PK_BYTES)
"""Partition of a user, and of the user's sessions and mappings."""

SESSION_ITEMS: KeyFormat[str, str] = KeyFormat(
    "key of a session's items",
    _IdentifierPart("user_id", "USR"),
    _IdentifierPart("session_id", "SESS"),
    limit=_PK_BYTES,
)
"""The partition of a session's processes, executions and reviews."""

SUGGESTIONS: KeyFormat[str] = KeyFormat(
    "key of a user's suggestions", _IdentifierPart("user_id", "USR"), "SUGGEST", limit=_PK_BYTES
)
"""The partition of a user's suggestions. It is not the user's own partition, because that one is read whole."""

FENCE: KeyFormat[str] = KeyFormat("key of an outage's copies", "OUTAGE", _TextPart("partition"), limit=_PK_BYTES)
"""The partition of copies that version 0.1.0 made of what it recorded of a session while Valkey did not answer."""

PUBLISH: KeyFormat[()] = KeyFormat("key of the publish lease", "PUBLISH", limit=_PK_BYTES)
"""The partition of the item that says which run published last, and which format the table has."""

ERASED: KeyFormat[()] = KeyFormat("key of the erasures", "ERASED", limit=_PK_BYTES)
"""The partition of the marks that say whose history was erased, and until when; see `agentmodel.erasure`."""

DELETED: KeyFormat[str] = KeyFormat("key of a deletion", "DELETED", _TextPart("item"), limit=_PK_BYTES)
"""The partition of the mark that an item was deleted and did not expire, by `item_digest`."""

LEASE: KeyFormat[str] = KeyFormat("key of a lease", "LEASE", _TextPart("name"), limit=_PK_BYTES)
"""The partition of a lease: who publishes, or changes the catalogue, now."""

ROUTING: KeyFormat[()] = KeyFormat("key of the routing data", "ROUTING", limit=_PK_BYTES)
"""The partition of what requests are routed to domains by; an item of each domain, under its id."""

METADATA: KeyFormat[()] = KeyFormat("sort key of a main item", "METADATA", limit=_SK_BYTES)
"""Sort key of the item that a partition is named after."""

TOOL: KeyFormat[str] = KeyFormat("tool key", _IdentifierPart("tool_id", "TL"), limit=_SK_BYTES)
"""Sort key of a tool in its agent's partition."""

SESSION: KeyFormat[str] = KeyFormat("session key", _IdentifierPart("session_id", "SESS"), limit=_SK_BYTES)
"""Sort key of a session in its user's partition."""

PROCESS: KeyFormat[str] = KeyFormat("process key", _IdentifierPart("process_id", "PRC"), limit=_SK_BYTES)
"""Sort key of a process among its session's items."""

EXECUTION: KeyFormat[str, str, str, int] = KeyFormat(
    "execution key",
    _IdentifierPart("process_id", "PRC"),
    _IdentifierPart("agent_id", "AGT"),
    _IdentifierPart("tool_id", "TL"),
    _CountPart("attempt", first=1),
    limit=_SK_BYTES,
)
"""Sort key of a tool call among its session's items: process, agent, tool and attempt."""

MAPPING: KeyFormat[str] = KeyFormat("mapping key", "UserPrcToolMapp", _TextPart("category"), limit=_SK_BYTES)
"""Sort key of a mapping in its user's partition."""

REVIEW: KeyFormat[str] = KeyFormat("review key", "REVIEW", _TextPart("review_id"), limit=_SK_BYTES)
"""Sort key of a review among its session's items."""

SUGGESTION: KeyFormat[str] = KeyFormat("suggestion key", "SUGGEST", _TextPart("suggestion_id"), limit=_SK_BYTES)
"""Sort key of a suggestion among its user's suggestions."""

DOMAINS: KeyFormat[()] = KeyFormat("index key of domains", "Domain", limit=_PK_BYTES)
"""Index partition of all domains."""

MAPPINGS: KeyFormat[int] = KeyFormat(
    "index key of mappings", "UserPrcToolMapp", _CountPart("partition", first=0), limit=_PK_BYTES
)
"""Index partition of the mappings of all users, by its number."""

REVIEW_QUEUE: KeyFormat[str] = KeyFormat("index key of a review queue", "Review", _TextPart("queue"), limit=_PK_BYTES)
"""Index partition of the open reviews of a queue."""

AGENT_SCORE: KeyFormat[float] = KeyFormat("index key of a score", "AGTSCORE", _ScorePart(), limit=_SK_BYTES)
"""Index sort key of an agent in its domain: the score."""

TOOL_NAME: KeyFormat[str] = KeyFormat("index key of a tool name", "TL", _TextPart("name"), limit=_SK_BYTES)
"""Index sort key of a tool in its domain: the name."""

TEXT: KeyFormat[str] = KeyFormat("index key of a name", _TextPart("name"), limit=_SK_BYTES)
"""Index sort key that is a name alone."""

REVIEW_DUE: KeyFormat[datetime] = KeyFormat("index key of a due time", _TimePart("due"), limit=_SK_BYTES)
"""Index sort key of a review in its queue: the time it is due."""
