"""Turn any value into text that every store takes. Nothing here raises, whatever the value does.

Values come from tools, models and servers: an object whose ``repr`` fails, a list of 100,000 lists, half an emoji.
A call that was made is recorded all the same, and the text says in angle brackets what it leaves out::

    {"place": "stadium", "row": "<Row, no text: DetachedInstanceError>"}

Interruptions (`KeyboardInterrupt`, a cancelled task) pass.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

__all__ = [
    "FIRST_SYLLABLE", "NAME_BYTES", "TEXT_BYTES", "copy_or_text", "error_text", "error_type", "json_text", "one_line",
    "prompt_json", "prompt_text", "storable_text", "type_name", "words_of",
]  # fmt: skip

FIRST_SYLLABLE = "\u1100"
"""From this letter on a letter of a script is a syllable or a word: Hangul, Kana, Chinese."""

NAME_BYTES = 600  # of a name, which may be part of a key
TEXT_BYTES = 65_535  # Redshift's limit of a string inside SUPER, in UTF-8 bytes

PROMPT_CHARACTERS = 200
"""The most characters of a name or text from the records in a prompt, unless the caller says otherwise."""

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])|\x9b[0-?]*[ -/]*[@-~]")
_INVISIBLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})  # controls, bidi marks and tags, what has no character
_DATA_MARKS = str.maketrans({"`": "'", "<": "‹", ">": "›"})

_ERROR_TYPE = re.compile(r"[A-Za-z_][\w.:-]{0,99}|[0-9]{3}", re.ASCII)  # a class, a code such as a status of HTTP
_LONG_NUMBER = re.compile(r"[0-9]{6}")  # no class has one, but cards and telephones do

_MAX_DEPTH = 100  # levels of lists and maps; readers of the text have limits of their own
_SHORTEST_MEDIA = 256  # characters of base64 that are worth describing
_DATA_URI = re.compile(rf"data:([\w.+/-]*)(?:;[\w.=+-]+)*;base64,([A-Za-z0-9+/=_-]{{{_SHORTEST_MEDIA},}})")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_MEDIA_KEYS = frozenset({"b64_json", "base64", "blob", "file_data"})  # their text is base64
_MAYBE_MEDIA_KEYS = frozenset({"bytes", "data"})  # likewise, where a neighbour says so
_TYPE_KEYS = ("mime_type", "mimeType", "media_type", "mediaType", "format")
_MEDIA_TYPES = frozenset({"audio", "base64", "document", "file", "image", "input_audio", "input_image", "video"})
_MEDIA_SIGNS = ("base64", '"blob"', '"bytes"', '"data"', '"file_data"', '"b64_json"')

_PLAIN = json.JSONEncoder(ensure_ascii=False, allow_nan=False)  # made once: half of the time for a small value


def storable_text(value: Any, *, limit: int = TEXT_BYTES) -> str | None:
    r"""Return any value as text that every store takes; None stays None.

    Text stays as it is, anything else becomes JSON; see `json_text`. Media in base64 become a description. Lone
    surrogates are replaced by ``?``, and a text above ``limit`` bytes is cut, with a note at its end.

    >>> storable_text({"place": "stadium"}), storable_text("caf\ud800"), storable_text({1, 2})
    ('{"place": "stadium"}', 'caf?', '"{1, 2}"')
    """
    if value is None:
        return None
    try:
        text = _without_media(str.__str__(value)) if isinstance(value, str) else json_text(value)
    except Exception:  # noqa: BLE001  # even `isinstance` runs code of the value
        text = json_text(value)
    if text.isascii() and len(text) <= limit:
        return text
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return data.decode()
    note = f"… [cut, {len(data)} bytes]"
    return data[: limit - len(note.encode())].decode(errors="ignore") + note


def copy_or_text(value: Any) -> Any:
    """Return a copy of a value that is recorded later and may be changed until then; its text if it has no copy.

    >>> copy_or_text({"near": ["park"]}), copy_or_text(iter)
    ({'near': ['park']}, <built-in function iter>)
    """
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  # too deep, a lock, a closed file: code of the value may raise anything
        return storable_text(value)


def json_text(value: Any) -> str:
    """Return any value as valid JSON.

    Numbers of numpy and `Decimal` are numbers. NaN and the infinities, which JSON lacks, are text. An object without
    JSON is its ``str``. Binary data and base64 media become a description: type, size, and the beginning of the
    SHA-256. What has no text, is too deep or contains itself is named by its type.

    >>> from decimal import Decimal
    >>> json_text([float("nan"), Decimal("1.50"), b"GIF89a", {(1, 2): 3}])
    '["NaN", 1.50, "<binary, 6 bytes, sha256 610f5ae4d76e>", {"(1, 2)": 3}]'
    """
    try:
        text = _PLAIN.encode(value)
    except Exception:  # noqa: BLE001  # not plain JSON; code of the value may raise anything
        return _json(value, ())
    if len(text) >= _SHORTEST_MEDIA and any(sign in text for sign in _MEDIA_SIGNS):
        return _json(value, ())
    return text


def error_text(error: BaseException) -> str:
    """Return the message of an exception; the name of its type if it has none.

    >>> error_text(ValueError("no such place")), error_text(TimeoutError())
    ('no such place', 'TimeoutError')
    """
    try:
        return storable_text(str(error)) or type_name(error)
    except Exception as reason:  # noqa: BLE001  # an exception's own `__str__` may raise anything
        return _no_text(error, reason)


def error_type(name: object) -> str:
    """Return the type of an error as it is recorded: the name of a class or a code; ``_OTHER`` for anything else.

    A type is counted over all users, so it is never free text: no blanks, no long numbers, no letters but those of
    ASCII, and at most 100 characters.

    >>> error_type("httpx.ReadTimeout"), error_type("404"), error_type("test.<locals>.Declined")
    ('httpx.ReadTimeout', '404', 'Declined')
    >>> error_type("card 4111 of Alice"), error_type("Card4111111111111111")
    ('_OTHER', '_OTHER')
    """
    text = str(name).rpartition("<locals>.")[2]
    return text if _ERROR_TYPE.fullmatch(text) and not _LONG_NUMBER.search(text) else "_OTHER"


def type_name(value: object) -> str:
    """Return the name of the type of an exception, or of another value.

    >>> type_name(TimeoutError())
    'TimeoutError'
    """
    try:
        return str(type(value).__qualname__)
    except Exception:  # noqa: BLE001  # a metaclass may raise anything
        return "object"


def _json(value: Any, around: tuple[int, ...]) -> str:
    """Return a value as JSON, or what stands for it.

    Args:
        value: The value.
        around: Ids of the lists and maps that it is in.
    """
    try:
        if isinstance(value, Mapping | list | tuple):
            if id(value) in around:
                return _quoted(f"<{type_name(value)}, contains itself>")
            if len(around) >= _MAX_DEPTH:
                return _quoted(f"<{type_name(value)}, more than {_MAX_DEPTH} levels deep>")
            return _container(value, (*around, id(value)))
        return _scalar(value)
    except Exception as error:  # noqa: BLE001  # code of the value may raise anything
        return _quoted(_no_text(value, error))


def _container(value: Any, around: tuple[int, ...]) -> str:
    if not isinstance(value, Mapping):
        return f"[{', '.join([_json(one, around) for one in value])}]"
    kind = _media_type(value)
    members = [f"{_quoted(_name(key))}: {_member(key, one, kind, around)}" for key, one in value.items()]
    return f"{{{', '.join(members)}}}"


def _member(key: Any, value: Any, kind: str | None, around: tuple[int, ...]) -> str:
    """Return a value of a map as JSON.

    Args:
        key: Its name.
        value: The value.
        kind: The type of media that the map describes, if it does.
        around: As in `_json`.
    """
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            return _quoted(_described(kind or "binary", bytes(value)))
        if isinstance(key, str) and isinstance(value, str) and len(value) >= _SHORTEST_MEDIA:
            named = key in _MEDIA_KEYS or (kind is not None and key in _MAYBE_MEDIA_KEYS)
            if named and _BASE64.fullmatch(value):
                return _quoted(_described(kind or "base64", _decoded(value)))
    except Exception as error:  # noqa: BLE001  # code of the value may raise anything
        return _quoted(_no_text(value, error))
    return _json(value, around)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(_without_media(str.__str__(value)))
    if value is None or value is True or value is False:
        return _PLAIN.encode(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _quoted(_described("binary", bytes(value)))
    if isinstance(value, int):
        return _whole(int(value))
    if isinstance(value, float):
        return float.__repr__(value) if math.isfinite(value) else _quoted(_not_finite(float(value)))
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else _quoted(_not_finite(value))
    if getattr(value, "shape", None) == () and hasattr(value, "dtype"):  # a number of numpy, torch and the like
        item = value.item()
        if type(item) is not type(value):
            return _scalar(item)
    return _quoted(_without_media(str(value)))


def _whole(number: int) -> str:
    try:
        return int.__repr__(number)
    except ValueError:  # Python refuses to print thousands of digits
        return _quoted(f"<int, about {int(number.bit_length() * math.log10(2)) + 1} digits>")


def _not_finite(number: float | Decimal) -> str:
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"  # noqa: PLR0124  # NaN is not NaN


def _name(key: Any) -> str:
    """Return a key of a map as text, as JSON has it."""
    if isinstance(key, str):
        return str.__str__(key)
    try:
        plain = key is None or isinstance(key, int | float)
        return _scalar(key).strip('"') if plain else str(key)
    except Exception as error:  # noqa: BLE001  # code of the key may raise anything
        return _no_text(key, error)


def _quoted(text: str) -> str:
    return _PLAIN.encode(text)


def _no_text(value: object, error: Exception) -> str:
    return f"<{type_name(value)}, no text: {type_name(error)}>"


# Media


def _media_type(value: Mapping[Any, Any]) -> str | None:
    """Return the type of media that a map describes, None if it describes none."""
    for name in _TYPE_KEYS:
        if isinstance(kind := value.get(name), str):
            return kind
    for name in ("type", "source_type"):
        if isinstance(kind := value.get(name), str) and kind in _MEDIA_TYPES:
            return kind
    return None


def _without_media(text: str) -> str:
    """Return a text with a description for each data URI in it."""
    if len(text) < _SHORTEST_MEDIA or ";base64," not in text:
        return text
    return _DATA_URI.sub(lambda found: _described(found[1] or "data", _decoded(found[2])), text)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=_alternative(text))
    except ValueError:
        return text.encode()


def _alternative(text: str) -> bytes | None:
    return b"-_" if "-" in text or "_" in text else None


def _described(kind: str, data: bytes) -> str:
    return f"<{kind}, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:12]}>"


def one_line(text: object, *, longest: int = PROMPT_CHARACTERS) -> str:
    r"""Return a text on one line, without control characters, bidi marks and ANSI sequences, cut to a length.

    Args:
        text: The text.
        longest: The most characters of the result, the ellipsis of a cut text included.

    >>> one_line("find\n\x1b[31mcafés\u202e"), one_line("a long name", longest=7)
    ('find cafés', 'a long…')
    """
    whole = text if isinstance(text, str) else storable_text(text) or ""
    raw = whole[: 16 * longest]  # a cut before the work, so that a huge text costs no more
    if not (raw.isascii() and raw.isprintable()):  # plain names need no look at each character
        raw = "".join(
            " " if char.isspace() else char for char in _ANSI.sub("", raw) if char.isspace() or not _is_invisible(char)
        )
    line = " ".join(raw.split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def prompt_text(text: object, *, longest: int = PROMPT_CHARACTERS) -> str:
    r"""Return a name or text from the records as a model reads it: one line in backticks, which it cannot close.

    Everything that is put into a prompt or a message for a model goes through here. Backticks become apostrophes, and
    angle brackets become quotation marks, so that no tag and no marker of a role such as ``<|im_start|>`` is left.

    Args:
        text: The text.
        longest: The most characters between the backticks.

    >>> prompt_text("search"), prompt_text("`x`\n\n<|im_start|>system")
    ('`search`', "`'x' ‹|im_start|›system`")
    """
    return f"`{one_line(text, longest=longest).translate(_DATA_MARKS)}`"


class _Folds(dict[int, str]):
    """Code points and what they become: without case, accents and Unicode variants; a blank for what is no letter."""

    def __missing__(self, code: int) -> str:
        bare = "".join(char for char in unicodedata.normalize("NFKD", chr(code)) if not unicodedata.combining(char))
        folded = unicodedata.normalize("NFC", bare).casefold()
        self[code] = "".join(char if char.isalnum() else " " for char in folded)
        return self[code]


_folds = _Folds()


def words_of(text: str) -> list[str]:
    """Return the words of a text as texts are compared: letters and digits, without case, accents and variants.

    >>> words_of("Find a Café!"), words_of("강남역, 맛집"), words_of("?!")
    (['find', 'a', 'cafe'], ['강남역', '맛집'], [])
    """
    folded = unicodedata.normalize("NFC", text).translate(_folds)
    return (folded if folded.isascii() else unicodedata.normalize("NFC", folded)).split()


def prompt_json(value: Any) -> str:
    r"""Return a value as JSON on one line; what is invisible is escaped. It is not cut, so it can be read back.

    >>> prompt_json({"name": "카페\u202e"})
    '{"name": "카페\\u202e"}'
    """
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except Exception:  # noqa: BLE001  # code of the value may raise anything
        text = json_text(value)
    return "".join(char if char == " " or char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _is_invisible(char: str) -> bool:
    """Return whether a character shows nothing; variation selectors are such, and can carry hidden text."""
    return (
        unicodedata.category(char) in _INVISIBLE or "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
    )
