"""Rendering: one Jinja2 environment for each language, and how values are shown to people."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from agentmodel.console._entrance import Visit
from agentmodel.console._words import LANGUAGES, language_of, translator

__all__ = ["STATIC", "Site", "moment", "mount_of", "visible"]

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
_LANGUAGE = "agentmodel_language"  # the cookie
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_BLANK = "\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"  # letters that show nothing


class Site:
    """Makes pages of templates."""

    def __init__(self) -> None:
        files = sorted(STATIC.iterdir())
        self._stamp = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:10]
        self._environments = {code: _environment(code) for code in LANGUAGES}

    def page(
        self, request: Request, template: str, visit: Visit | None = None, *, status: int = 200, **data: Any
    ) -> HTMLResponse:
        """Return a page in the language that the request asks for."""
        language = self.language(request)

        def url(to: str, **path: Any) -> str:
            return request.url_for(to, **path).path  # the whole URL would hold the Host header

        kept = [pair for pair in request.query_params.multi_items() if pair[0] != "lang"]
        told = {"url": url, "visit": visit, "lang": language, "languages": LANGUAGES, "stamp": self._stamp}
        told |= {"here": request.url.path, "query": f"?{urlencode([*kept, ('lang', '')])}"}
        text = self._environments[language].get_template(template).render(told | data)
        answer = HTMLResponse(text, status)
        if "lang" in request.query_params:
            answer.set_cookie(_LANGUAGE, language, samesite="strict", httponly=True, path=mount_of(request))
        return answer

    @staticmethod
    def language(request: Request) -> str:
        """Return the language that a request asks for."""
        chosen = request.query_params.get("lang") or request.cookies.get(_LANGUAGE, "")
        return language_of(chosen, request.headers.get("accept-language", ""))


def mount_of(request: Request) -> str:
    """Return the path that the console is mounted at."""
    return str(request.scope.get("root_path", "")) or "/"


def _environment(language: str) -> Environment:
    env = Environment(  # one for each language: overlays share their globals
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    gettext, ngettext = translator(language)
    env.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]  # of the extension
    filters: dict[str, Callable[..., Any]] = {
        "visible": visible,
        "moment": moment,
        "percent": lambda share: f"{100 * share:.0f} %",
        "pretty": lambda value: json.dumps(value, ensure_ascii=False, indent=2),
        "took": _took,
    }
    env.filters.update(filters)
    return env


def visible(text: object) -> str:
    r"""Return a text in which characters that hide or reorder others are shown by their number.

    >>> visible("pay \u202e001")
    'pay ⟨U+202E⟩001'
    """
    return "".join(f"⟨U+{ord(each):04X}⟩" if _is_hidden(each) else each for each in str(text))


def _is_hidden(char: str) -> bool:
    if char in "\n\t" or (char.isascii() and char.isprintable()):
        return False
    return (
        unicodedata.category(char) in _HIDDEN
        or char in _BLANK
        or "\ufe00" <= char <= "\ufe0f"
        or "\U000e0100" <= char <= "\U000e01ef"
    )


def moment(value: datetime | str | None) -> str:
    """Return a time in UTC as people read it; '' for none.

    >>> from datetime import UTC, datetime
    >>> moment(datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)), moment("20260301123005000000")
    ('2026-03-01 12:30:05', '2026-03-01 12:30:05')
    """
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    found = re.match(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)", value or "")
    return "{}-{}-{} {}:{}:{}".format(*found.groups()) if found else value or ""


def _took(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
