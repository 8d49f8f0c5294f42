r"""Forms of secrets and of personal data: patterns, and the check digits that tell a card number from any number.

What most texts lack is looked for first, by what Python does fastest: runs of one kind of characters, and plain ``in``.
A boundary is no letter, digit or underscore of ASCII, so that Hangul may follow a number, or an escape of a JSON text
that was cut and cannot be read any more (``\n4111…``).
"""

from __future__ import annotations

import re

__all__ = [
    "API_KEY",
    "BEARER",
    "FIELD",
    "HEADER",
    "MARK",
    "MEMBER",
    "PASSWORD",
    "PRIVATE_KEY",
    "URL_PASSWORD",
    "WORDS",
    "ascii_spelling",
    "emails",
    "may_have_key",
    "numbers",
    "plain_name",
]

_BEGIN = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf]))"
_KEY_BEGIN = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf]))"
_BETWEEN = "[ .-]"

_KEY_CHARACTERS = bytes(b"- "[not re.match(r"[A-Za-z0-9_-]", chr(code))] for code in range(256))
_LONG = b"-" * 20  # may be an API key; no word of a language is as long
_UUID = re.compile("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_RUN = re.compile(r"[0-9][0-9 ./()-]{8,}")  # numbers of persons are in such a run of digits
_RUN_OF_ANY_SCRIPT = re.compile(r"\d[\d ./()-]{8,}")
_SAME: dict[int, int | str] = {
    **{wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)},
    **{first + digit: 48 + digit for first in (0x0660, 0x06F0, 0x0966) for digit in range(10)},
    **dict.fromkeys([0xA0, *range(0x2000, 0x200C), 0x202F, 0x205F, 0x3000], " "),
    **dict.fromkeys([0xAD, *range(0x2010, 0x2016), 0x2212], "-"),
}
"""Other spellings of the characters of ASCII that finds are made of: wide ones, digits of scripts, blanks, hyphens."""
_OTHER = re.compile(f"[{''.join(map(chr, _SAME))}]")
_MAY_BE_ABROAD = re.compile(r"\+\d[\d ./()-]{8,}")
_MAY_BE_NUMBER = re.compile(  # a number without anything between its digits, or a longer one; most dates are neither
    r"(?:[^\D1]\d{12,18}|01\d{8,9})(?!\d)|(?=.{11})(?=\d+[ ./()-]+\d).*?\d\d(?:\d[ .-]?\d{4}|[ .-]\d{5})"
)

WORDS = (
    "passw", "passph", "passc", "pwd", "secret", "token", "key", "authoriz", "bearer", "basic", "cookie", "credential",
    "cvv", "cvc", "ssn", "sig=", "signature", "비밀번호", "암호",
)  # fmt: skip
"""Words beside which a secret may stand, in lower case."""

_KEY_BEGINNING = re.compile(
    r"sk-|k_(?:live|test|prod)_|whsec_|gh[opsur]_|github_pat_|gl[a-z]{2,5}-|xox|xapp-"
    r"|A(?:KIA|SIA|ROA|IDA|GPA|NPA|BIA|CCA)"
    r"|AIza|ya29|GOCSPX|eyJ|npm_|hf_|gsk_|d[or]{2}_v1_|dop_v1_|shp[a-z]{2}_|lin_api_|ntn_|r8_"
    r"|pplx-|tvly-|xai-|fc-|pypi-|dapi|SG\.|key-|SK|:AA"
)
MARK = re.compile(r"\[[a-z_]{2,40}(?::[a-p]{20})?\]")
"""What stands in the place of a find."""

API_KEY = re.compile(
    rf"{_KEY_BEGIN}(?:"
    r"sk-(?=[A-Za-z_-]{0,80}\d)[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic, OpenRouter, DeepSeek
    r"|[spr]k_(?:live|test|prod)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{18,}"  # Stripe
    r"|gh[opsur]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}"
    r"|gl(?:pat|oas|dt|rt|cbt|ptt|ft|imt|agent|soat)-[A-Za-z0-9_-]{20,}"  # GitLab
    r"|xox[a-z]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{16,}"  # Slack
    r"|A(?:KIA|SIA|ROA|IDA|GPA|NPA|BIA|CCA)[A-Z0-9]{16}(?![A-Za-z0-9])"  # AWS
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}"  # Google
    r"|eyJ[A-Za-z0-9_-]{8,4096}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"  # JSON Web Token
    r"|(?:npm|hf|gsk|dop_v1|doo_v1|dor_v1|shpat|shpca|shppa|shpss|lin_api|ntn|r8)_[A-Za-z0-9]{20,}"
    r"|(?:pplx|tvly|xai|fc)-(?=[A-Za-z]*\d)[A-Za-z0-9]{20,}"
    r"|pypi-[A-Za-z0-9_-]{40,}|dapi[a-f0-9]{32}|SG\.[A-Za-z0-9_-]{16,100}\.[A-Za-z0-9_-]{16,}|key-[a-f0-9]{32}"
    r"|SK[a-f0-9]{32}|\d{8,10}:AA[A-Za-z0-9_-]{33}"  # Twilio, Telegram
    r")"
)
"""API keys and tokens that begin as their issuer's do."""

BEARER = re.compile(r"(?i)\b(?:bearer|basic)(?:\s|\\[nrt])+([a-z0-9._~+/-]{16,}=*)")
"""What follows the scheme of an ``Authorization`` header."""

PASSWORD = re.compile(
    r"(?i)(?!(?:password|api_key|private_key):[a-p]{20}\])(?:passw(?:or)?d|passphrase|pwd"
    r"|secret[-_ ]?(?:access[-_ ]?)?key|[-_]secret|api[-_ ]?key|access[-_ ]?key|private[-_ ]?key"
    r"|(?:access|auth|refresh|session|id|bot|api)[-_ ]?token|비밀번호|암호)"
    r"""(?:\\?["'])?\s*(?:=>|:=|[:=])\s*(?!\\?["']?(?:\[[a-z_]+(?::[a-p]{20})?\]|<[a-z_ -]+>)(?:[\s"'\\&;,.)\]}]|\Z))"""
    r"""(?:\\?"([^"\\\n]{3,})|'([^'\n]{3,})|([^\s"'\\&;]{3,}))"""
)
"""What is assigned to a name that says that it is secret; a mark of an earlier redaction is none."""

MEMBER = re.compile(
    r"""(\\{0,9}["']|(?<![\w.-]))([\w.-]{2,64})\1\s*"""
    r"""(?:[:=]\s*(\\{0,9}["'])((?:(?!\3)(?:\\.|[^\\\n]))+)|=(?!\[[a-z_]+[\]:])([^\s&#;,"'\\()\[\]{}]{6,}))"""
)
"""A member of JSON, or of what looks like it, and a parameter of a URL: name in group 2, value in group 4 or 5."""

HEADER = re.compile(
    r"(?i)\bauthorization\s*:\s*(?:(?:basic|bearer|digest|token|apikey)\s+([^\s\"'\[<]\S*)|(?=\S{0,200}\d)([^\s\"'\[<]\S*))"
    r"|\bcookie\s*:\s*([^\s=\"']{1,100}=[^\r\n\"']+)"
)
"""Headers of HTTP that are secret, as they are sent."""

URL_PASSWORD = re.compile(r"(?<=://)[^/\s:@\"']*:([^/\s@\"]+)(?=@)")
"""The password of a URL."""

PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
"""A private key in PEM; one without an end was cut, and goes to the end of the text."""

_DOMAIN = re.compile(r"@(?:(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}|(?:[\w-]+\.)+[^\W\d_]{2,})")
_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+'-&")
_LONGEST_LOCAL = 64  # characters before the @ of an address

FIELD = re.compile(
    r"(?:password|passwd|passphrase|passcode|pwd|secret|apikey|accesskey|secretkey|secretaccesskey|privatekey"
    r"|accountkey|accesstoken|authtoken|refreshtoken|sessiontoken|securitytoken|bearertoken|csrftoken|xsrftoken|idtoken"
    r"|bottoken|apitoken|authorization|cookie|credential|amzsignature|googsignature|비밀번호|암호)s?\d*$"
    r"|^(?:token|cvv|cvc|ssn|sig)$"
)
"""Names of members in JSON whose value is secret, as `plain_name` gives them."""

_NUMBER = re.compile(
    rf"{_BEGIN}(?<![A-Za-z0-9]-)(?:"
    rf"(?P<resident_number>\d{{2}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]){_BETWEEN}[1-8]\d{{6}})"
    rf"|(?P<card>\d{{13,19}}|\d{{4}}({_BETWEEN})\d{{4}}\3\d{{4}}\3\d{{1,4}}(?:\3\d{{3}})?"
    rf"|\d{{4}}({_BETWEEN})\d{{6}}\4\d{{4,5}})"
    rf"|(?P<business_number>\d{{3}}{_BETWEEN}\d{{2}}{_BETWEEN}\d{{5}})"
    rf"|(?P<phone>01[016789]{_BETWEEN}?\d{{3,4}}{_BETWEEN}?\d{{4}}"
    rf"|(?:\(0(?:2|[3-6]\d|70)\) ?|0(?:2|[3-6]\d|70|80|50\d){_BETWEEN})\d{{3,4}}{_BETWEEN}\d{{4}}"
    rf"|\([2-9]\d\d\) ?\d{{3}}{_BETWEEN}\d{{4}}|[2-9]\d\d{_BETWEEN}[2-9]\d\d{_BETWEEN}\d{{4}})"
    r")(?!-?[A-Za-z0-9_]|\.(?!0+(?!\d))\d)"
    rf"|(?<![A-Za-z0-9+])(?P<abroad>\+82{_BETWEEN}?\(?0?\)?{_BETWEEN}?\d{{1,2}}{_BETWEEN}?\d{{3,4}}{_BETWEEN}?\d{{4}}"
    rf"|\+1{_BETWEEN}?\(?\d{{3}}\)?{_BETWEEN}?\d{{3}}{_BETWEEN}?\d{{4}}"
    r"|\+[2-9]\d{0,2}(?:[ .()/-]{0,2}\d){7,13})(?![A-Za-z0-9_])"
)
_WORD_BEFORE = re.compile(r"(?:(?<!\\)[A-Za-z0-9_]|\\[^nrtbf]|[A-Za-z0-9]-|[0-9]\.)\Z")
_WORD_AFTER = re.compile(r"-?[A-Za-z0-9_]|\.\d")  # after a comma the next value may follow, as in CSV
_DOUBLED = str.maketrans("0123456789", "0246813579")  # the sum of the digits of twice a digit
_BIRTH = re.compile(r"\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[1-8]")
_SEPARATORS = re.compile(r"\D+")
_BEFORE_IBAN = 24  # characters of an IBAN before its first run of digits
_IBAN_BEGIN = re.compile(r"[A-Z]{2}\d{2}")
_WORD_END = re.compile(r"(?<!\\)[A-Za-z0-9_]\Z")
_IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}")
_IBAN_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 "
    "EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 "
    "KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 "
    "PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 "
    "VA22 VG24 XK20 YE30"
)
_IBAN_LENGTHS = dict(re.findall(r"([A-Z]{2})(\d{2})", _IBAN_COUNTRIES))


def plain_name(name: str) -> str:
    """Return the name of a member in JSON in lower case, without what separates its words.

    >>> plain_name("X-Api_Key")
    'xapikey'
    """
    return "".join(char for char in name.lower() if char not in "-_ .")


def may_have_key(text: str) -> bool:
    """Return whether `API_KEY` may match in a text; False is sure."""
    runs = text.encode("ascii", "replace").translate(_KEY_CHARACTERS) + b" "
    start = runs.find(_LONG)
    while start >= 0:
        end = runs.index(b" ", start)
        is_uuid = end - start == 36 and _UUID.match(text, start)
        if not is_uuid and _KEY_BEGINNING.search(text, max(0, start - 6), end) is not None:
            return True
        start = runs.find(_LONG, end)
    return False


def ascii_spelling(text: str) -> str:
    """Return a text with its characters where they were, in the spelling of ASCII."""
    return text if text.isascii() or _OTHER.search(text) is None else text.translate(_SAME)


def emails(text: str) -> list[tuple[int, int, str]]:
    """Return beginning, end and kind of each e-mail address in a text, in order.

    >>> emails("from mina@example.com")
    [(5, 21, 'email')]
    """
    text = ascii_spelling(text)
    found, done = [], 0
    for domain in _DOMAIN.finditer(text):
        at = start = domain.start()
        first = max(done, at - _LONGEST_LOCAL)
        while start > first and text[start - 1] in _LOCAL:
            start -= 1
        while text[start] in "'.-":  # such as an opening quotation mark
            start += 1
        if start == at:  # letters that are not of ASCII; before letters of ASCII they are the word before the address
            while start > first and text[start - 1].isalnum() and not text[start - 1].isascii():
                start -= 1
        if start < at:
            done = domain.end()
            found.append((start, done, "email"))
    return found


def numbers(text: str) -> list[tuple[int, int, str]]:
    """Return beginning, end and kind of each number of a person in a text, in order.

    >>> numbers("card 4111 1111 1111 1111, order 4111 1111 1111 1112")
    [(5, 24, 'card')]
    """
    text = ascii_spelling(text)
    taken: list[tuple[int, int, str]] = []
    done = 0
    pattern = _RUN if text.isascii() else _RUN_OF_ANY_SCRIPT
    runs = pattern.findall(text)
    if not runs or not (
        any(map(_MAY_BE_NUMBER.match, runs)) or _IBAN.search(text) or ("+" in text and _MAY_BE_ABROAD.search(text))
    ):
        return taken  # most are ids, times and dates
    for run in pattern.finditer(text):
        start, digits = run.start(), run[0]
        before = text[max(0, start - 2) : start]
        last = before[-1:]
        if last.isupper() or (last == " " and before[0].isupper()):
            iban = _iban(text, max(done, start - _BEFORE_IBAN), start)
            if iban is not None:
                taken.append((*iban, "iban"))
                done = iban[1]
        if last != "+" and _MAY_BE_NUMBER.match(digits) is None:
            continue
        digits = digits.rstrip(" ./()-")
        end = start + len(digits)
        if digits.isdigit() and last != "+":
            kind = _unspaced(digits, before, text[end : end + 2])
            if kind is not None and start >= done:
                taken.append((start, end, kind))
                done = end
            continue
        place = max(start - 2, done)  # a plus sign or a parenthesis may stand before it
        while (found := _NUMBER.search(text, max(place, 0), run.end() + 2)) is not None:
            if (kind := _kind(found, text)) is None:
                place = found.start() + 1  # another number may begin within
            else:
                taken.append((found.start(), found.end(), kind))
                place = done = found.end()
    return taken


def _unspaced(text: str, before: str, after: str) -> str | None:
    """Return what a run of digits is, without a search; None for a number as any other.

    Args:
        text: The digits.
        before: The two characters before them.
        after: The two characters after them.
    """
    if _WORD_BEFORE.search(before) or _WORD_AFTER.match(after):
        return None
    if len(text) < 13:
        return "phone" if text[2] in "016789" else None
    return _by_check_digits(text)


def _by_check_digits(text: str) -> str | None:
    """Return what 13 to 19 digits are; None for a number as any other."""
    # without a hyphen, most numbers of this form are no resident numbers: those that begin with 1 are times in ms
    if len(text) == 13 and text[0] != "1" and _BIRTH.match(text) and _resident([int(char) for char in text]):
        return "resident_number"
    return "card" if _issued(text) and _luhn(text) else None


def _kind(found: re.Match[str], text: str) -> str | None:
    """Return what a number is, by its check digits; None for a number as any other."""
    kind, start = found.lastgroup, found.start()
    is_phone = kind in ("phone", "abroad")
    if start > 1 and text[start - 1] == "." and text[start - 2].isdigit() and (not is_phone or found[0].isdigit()):
        return None  # decimals of a number
    if is_phone:
        return "phone"
    if kind == "resident_number":
        return kind  # those given since October 2020 have no check digit
    digits = _SEPARATORS.sub("", found[0])
    if kind == "card":
        return _by_check_digits(digits)
    return kind if _business([int(digit) for digit in digits]) else None


def _luhn(text: str) -> bool:
    digits = text[-1::-2] + text[-2::-2].translate(_DOUBLED)
    return (sum(digits.encode()) - 48 * len(digits)) % 10 == 0


def _issued(text: str) -> bool:
    """Return whether a card number has a length and a beginning that are issued."""
    first, length = text[0], len(text)
    if first == "4":
        return length in (13, 16, 19)
    if first == "3":
        return length == {"34": 15, "37": 15, "30": 14, "36": 14, "38": 14, "39": 14, "35": 16}.get(text[:2])
    if first == "9" or "51" <= text[:2] <= "55" or "2221" <= text[:4] <= "2720":  # 9: within Korea
        return length == 16
    return first in "56" and 16 <= length <= 19


def _resident(digits: list[int]) -> bool:
    total = sum(digit * factor for digit, factor in zip(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=False))
    remainder = (11 - total % 11) % 10
    return digits[12] in (remainder, (remainder + 2) % 10)  # of a foreigner the second


def _business(digits: list[int]) -> bool:
    total = sum(digit * factor for digit, factor in zip(digits, (1, 3, 7, 1, 3, 7, 1, 3, 5), strict=False))
    return (10 - (total + digits[8] * 5 // 10) % 10) % 10 == digits[9]


def _iban(text: str, first: int, last: int) -> tuple[int, int] | None:
    """Return beginning and end of the IBAN that begins between two places in a text."""
    for begun in _IBAN_BEGIN.finditer(text, first, last + 2):
        start, length = begun.start(), int(_IBAN_LENGTHS.get(begun[0][:2], 0))
        found = _IBAN.match(text, start) if length else None
        if found is None or _WORD_END.search(text[max(0, start - 2) : start]):
            continue
        places = [place for place, char in enumerate(found[0]) if char != " "][:length]
        end = start + places[-1] + 1
        plain = text[start:end].replace(" ", "")
        if len(plain) == length and re.match("[A-Za-z0-9]", text[end : end + 1]) is None:
            number = "".join(str(int(char, 36)) for char in plain[4:] + plain[:4])
            if int(number) % 97 == 1:
                return start, end
    return None
