"""Who looks at the console: log-in by a token, a signed cookie, forms that no other site can send, and headers."""

from __future__ import annotations

import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentmodel._runtime.process import ForkSafeLock
from agentmodel.callers import Caller, Tokens, digest_of, is_local_name, is_loopback
from agentmodel.exceptions import NotAllowed

__all__ = ["COOKIE", "COOKIE_SECONDS", "Entrance", "Headed", "TooManyAttempts", "Unreadable", "Visit", "form_of"]

COOKIE = "agentmodel_console"
COOKIE_SECONDS = 12 * 3600
_ATTEMPTS, _WINDOW = 5, 60.0  # failed log-ins of an address, and the seconds for which they count
_ADDRESSES = 10_000  # whose failures are kept
_BODY = 256 * 1024  # bytes of a form; arguments of a call are larger only where nobody can read them
_FIELDS = 500
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class TooManyAttempts(Exception):
    """Raised when an address has failed to log in too often."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What was wrong with the body of a request that should be a form, and the status to answer with."""

    problem: str
    status: int


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is known.

    Attributes:
        request: The request.
        caller: Who looks.
        csrf: The secret that the forms of this log-in carry.
        logged_in: Whether there is a log-in to end; there is none without tokens.
        form: What was sent, without the secret; empty for a GET.
    """

    request: Request
    caller: Caller
    csrf: str
    logged_in: bool = True
    form: dict[str, str] = field(default_factory=dict)

    def asked(self, name: str) -> str:
        """Return a parameter of the URL without blanks around it; '' where it is not given."""
        return self.request.query_params.get(name, "").strip()


class Entrance:
    """Log-in and the cookie.

    The cookie holds the SHA-256 of the token and a random number, signed. The token file is asked at every request, so
    a token that is withdrawn ends its log-ins at once. Nothing is kept on the server but failed attempts.

    Args:
        tokens: Whose tokens open the console; None: nobody logs in, and only this machine is answered.
        caller: Who looks where there are no tokens.
        secret: Signs the cookies.
        now: Returns seconds, for the window of failed attempts.
    """

    def __init__(
        self, tokens: Tokens | None, caller: Caller, secret: str, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens, self._caller, self._now = tokens, caller, now
        self._sign = URLSafeTimedSerializer(secret, salt="agentmodel.console")
        self._key = secret.encode()
        self._failures: dict[str, deque[float]] = {}
        self._lock = ForkSafeLock()

    @property
    def has_tokens(self) -> bool:
        """Whether people log in."""
        return self._tokens is not None

    def visit(self, request: Request) -> Visit | None:
        """Return who looks; None where somebody has to log in first.

        Raises:
            NotAllowed: There are no tokens, and the request is not from this machine to a name of this machine.
        """
        if self._tokens is None:
            self._check_local(request)
            return Visit(request, self._caller, self._csrf("local"), logged_in=False)
        try:
            digest, number = self._sign.loads(request.cookies.get(COOKIE, ""), max_age=COOKIE_SECONDS)
        except (BadSignature, ValueError, TypeError):
            return None
        caller = self._tokens.of_digest(digest)
        return None if caller is None else Visit(request, caller, self._csrf(number))

    @staticmethod
    def _check_local(request: Request) -> None:
        """Raise an error for another machine, and for a name that a page of the web could let resolve to this one."""
        address = request.client.host if request.client else ""
        if not is_loopback(address):
            raise NotAllowed(
                f"not allowed: this console has no tokens, so it answers its own machine only, not {address or 'this'}"
            )
        host = request.headers.get("host", "")
        if not is_local_name(host):
            raise NotAllowed(
                f"not allowed: this console has no tokens, so it answers to localhost and 127.0.0.1 only, not to {host}"
            )

    def log_in(self, request: Request, token: str) -> str | None:
        """Return the value of the cookie; None for a token that is not known.

        Raises:
            TooManyAttempts: This address has failed five times within a minute.
        """
        address = request.client.host if request.client else ""
        digest = digest_of(token)
        with self._lock:
            failures = self._recent(address)
            if len(failures) >= _ATTEMPTS:
                raise TooManyAttempts
            if self._tokens is None or self._tokens.of_digest(digest) is None:
                failures.append(self._now())
                self._failures[address] = failures
                return None
        return self._sign.dumps([digest, secrets.token_hex(8)])

    def _recent(self, address: str) -> deque[float]:
        oldest = self._now() - _WINDOW
        if len(self._failures) >= _ADDRESSES:
            self._failures = {each: times for each, times in self._failures.items() if times[-1] > oldest}
        failures = self._failures.get(address, deque(maxlen=_ATTEMPTS))
        while failures and failures[0] <= oldest:
            failures.popleft()
        return failures

    def _csrf(self, number: str) -> str:
        return hmac.new(self._key, b"form:" + str(number).encode(), "sha256").hexdigest()

    def permits(self, visit: Visit, given: str) -> bool:
        """Return whether a form's secret is that of this log-in."""
        return hmac.compare_digest(visit.csrf.encode(), given.encode())

    @staticmethod
    def is_own(headers: Headers) -> bool:
        """Return whether a form comes from a page of the console, as the browser itself says."""
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = headers.get("origin")
        return origin is None or origin.partition("://")[2] == headers.get("host")


class Headed:
    """ASGI middleware: sets the headers of every answer. Pages are not kept by any cache."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, headed)


async def form_of(request: Request) -> dict[str, str] | Unreadable:
    """Return what a form has, or why it cannot be read."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return Unreadable("no form", 415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY:
            return Unreadable("too large", 413)
    if body.count(b"&") >= _FIELDS:
        return Unreadable("too large", 413)
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True)
    except ValueError:
        return Unreadable("no form", 400)
    return {name: text.replace("\r\n", "\n") for name, text in fields}  # as which browsers send every line end
