"""Callers of the MCP server and the console: the user and roles of a caller, which no argument or form can change."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic import ValidationError as Invalid

from agentmodel import keys
from agentmodel._log import logger
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.exceptions import ConfigurationError, NotAllowed, ValidationError, rule_of

if TYPE_CHECKING:
    from mcp.server.auth.provider import AccessToken

__all__ = ["Caller", "Role", "Tokens", "roles_of"]

_log = logger(__name__)

Role = Literal["reader", "recorder", "reviewer", "operator", "curator"]
"""What a caller may do: read, record, or answer reviews. A recorder records agents and tools of the catalogue; one
who is a curator, too, others as well. An operator reads and records for every user, and failures that it records count
for everybody, but it answers no review."""

ROLES: tuple[Role, ...] = get_args(Role)
"""Every `Role`."""


class Caller(BaseModel):
    """The caller of a tool or page: a user, and the roles that the caller has.

    Attributes:
        user_id: The user whose sessions the caller may see and record.
        roles: What the caller may do.

    >>> caller = Caller(user_id="USR001", roles=roles_of(["reader"]))
    >>> caller.scope(None, "reader")
    'USR001'
    >>> caller.scope("USR002", "reader")
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.NotAllowed: not allowed: the caller may see and record the sessions of ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: Annotated[str, AfterValidator(lambda given: keys.id_of("USR", given, field="user_id"))]
    roles: frozenset[Role]

    def need(self, *roles: Role) -> None:
        """Raise a `NotAllowed` unless the caller has one of these roles.

        >>> Caller(user_id="USR001", roles=roles_of(["reader"])).need("reviewer", "operator")
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.NotAllowed: not allowed: this needs the role reviewer or operator, and ...
        """
        if not self.roles.intersection(roles):
            raise NotAllowed(
                f"not allowed: this needs the role {' or '.join(roles)}, and the caller has {_listed(self.roles)}"
            )

    def scope(self, asked: str | None, *roles: Role) -> str:
        """Return the user that a call is about: the caller's own, or the one that an operator names.

        Args:
            asked: The user that the call names.
            roles: Roles that permit the call for the caller's own user.

        Raises:
            NotAllowed: The caller has none of the roles, or names another user and is no operator.

        >>> Caller(user_id="USRops", roles=roles_of(["operator"])).scope("USR001", "reader")
        'USR001'
        """
        self.need(*roles, "operator")
        asked = self.user_id if asked is None else keys.id_of("USR", asked, field="user_id")
        if asked == self.user_id:
            return asked
        if "operator" not in self.roles:
            raise NotAllowed(
                f"not allowed: the caller may see and record the sessions of {self.user_id} only, not those of "
                f"{asked}; leave user_id out"
            )
        return asked

    def history_of(self, asked: str | None) -> str:
        """Return the user whose history a caller reads; nobody but an operator reads that of the anonymous user.

        Raises:
            NotAllowed: See `scope`; or the caller is the anonymous user.

        >>> Caller(user_id="USR001", roles=roles_of(["reader"])).history_of(None)
        'USR001'
        """
        user = self.scope(asked, "reader")
        if user == ANONYMOUS and "operator" not in self.roles:
            raise NotAllowed(
                f"not allowed: {ANONYMOUS} stands for everybody whose name is not known, so its sessions are not the "
                "caller's; name the user in the token, or when the server is started"
            )
        return user

    def check_reviewer(self, reference: str, user_id: str, *, self_review: bool) -> None:
        """Raise a `NotAllowed` unless the caller may answer a question.

        Args:
            reference: The question.
            user_id: The user whose session it is about.
            self_review: Whether people may answer questions about their own sessions.

        >>> lee = Caller(user_id="USRlee", roles=roles_of(["reviewer"]))
        >>> lee.check_reviewer("USR001/SESS1/1", "USR001", self_review=False)
        >>> lee.check_reviewer("USRlee/SESS1/1", "USRlee", self_review=False)
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.NotAllowed: not allowed: review USRlee/SESS1/1 is about a session of ...
        """
        self.need("reviewer")
        if user_id == self.user_id and not self_review:
            raise NotAllowed(
                f"not allowed: review {reference} is about a session of {self.user_id}, who is the caller; another "
                "reviewer must answer it"
            )


class _TokenEntry(Caller):
    """An entry of the token file: the SHA-256 of a token, its user and roles, and when it expires."""

    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")]
    expires_at: AwareDatetime | None = None


class Tokens:
    """Verifies bearer tokens by their SHA-256.

    Args:
        entries: Hash, user, roles and expiry of each token.
        now: Returns the present time.
    """

    def __init__(
        self, entries: Iterable[_TokenEntry], *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._entries = tuple(entries)
        self._now = now
        self._path: Path | None = None
        self._read: tuple[int, int, int] | None = None

    @classmethod
    def of_file(cls, path: str | Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Tokens:
        """Read a token file, such as ``[{"sha256": "…", "user_id": "USR001", "roles": ["reader"]}]``.

        The file is read again when it has changed, so a token can be withdrawn without a restart. While the changed
        file cannot be read, every token is rejected.

        Raises:
            ConfigurationError: The file cannot be read, or is not a token file.

        >>> import json
        >>> entry = {"sha256": digest_of("a-long-secret-token"), "user_id": "USR001", "roles": ["reader"]}
        >>> _ = (folder / "tokens.json").write_text(json.dumps([entry]))
        >>> tokens = Tokens.of_file(folder / "tokens.json")
        >>> tokens.of_digest(digest_of("a-long-secret-token")).user_id, tokens.of_digest(digest_of("guessed"))
        ('USR001', None)
        """
        tokens = cls((), now=now)
        tokens._path = Path(path)
        tokens._reread(tokens._path)
        return tokens

    def _reread(self, path: Path) -> None:
        self._read, self._entries = None, ()
        try:
            read = _state(path)
            entries = TypeAdapter(list[_TokenEntry]).validate_python(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            reason = _first_error(error) if isinstance(error, Invalid) else error
            raise ConfigurationError(f"the token file {path} cannot be used: {reason}") from None
        self._read, self._entries = read, tuple(entries)

    def _current(self) -> tuple[_TokenEntry, ...]:
        """Return the entries as the file has them now."""
        if self._path is not None and (self._read is None or self._read != _state(self._path)):
            try:
                self._reread(self._path)
            except ConfigurationError as error:
                _log.error("callers.tokens: every token is rejected until the token file is repaired: %s", error)
        return self._entries

    def of_digest(self, digest: str) -> Caller | None:
        """Return the user and roles of the token with this SHA-256 in hexadecimal; None if unknown or expired."""
        found = None
        for entry in self._current():  # compare every entry, so that the time says nothing about the hashes
            if hmac.compare_digest(entry.sha256.lower().encode(), digest.encode()):
                found = entry
        if found is None or (found.expires_at is not None and found.expires_at <= self._now()):
            return None
        return Caller(user_id=found.user_id, roles=found.roles)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return a token's user and roles to an MCP server; None if it is unknown, withdrawn or expired.

        >>> import asyncio, json
        >>> entry = {"sha256": digest_of("another-long-token"), "user_id": "USR001", "roles": ["reader"]}
        >>> _ = (folder / "mcp.json").write_text(json.dumps([entry]))
        >>> found = asyncio.run(Tokens.of_file(folder / "mcp.json").verify_token("another-long-token"))
        >>> found.scopes
        ['reader']
        """
        from mcp.server.auth.provider import AccessToken

        digest = digest_of(token)
        found = self.of_digest(digest)
        if found is None:
            return None
        return AccessToken(token=token, client_id=digest[:16], scopes=sorted(found.roles), subject=found.user_id)


def digest_of(token: str) -> str:
    """Return the SHA-256 of a token in hexadecimal, as a token file has it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def is_loopback(host: str) -> bool:
    """Return whether an address is one of this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("::ffff:127.0.0.1"), is_loopback("::ffff:10.0.0.1")
    (True, True, True, False)
    """
    try:
        address = ipaddress.ip_address(host)
        mapped = address.ipv4_mapped if address.version == 6 else None  # of a client, where the server listens on IPv6
        return (mapped or address).is_loopback
    except ValueError:
        return host == "localhost"


def is_local_name(host: str) -> bool:
    """Return whether a Host header names this machine; one that cannot be read does not.

    >>> is_local_name("localhost:8321"), is_local_name("[::1]:8321"), is_local_name("[::1"), is_local_name("")
    (True, True, False, False)
    """
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _listed(roles: Iterable[str]) -> str:
    """Return roles as a text for an error."""
    return ", ".join(sorted(roles)) or "no role"


def _first_error(error: Invalid) -> str:
    """Return the first error in a token file and its place; never a value, which may be a token."""
    found = error.errors()[0]
    match found["loc"]:
        case (int(at), *names):
            where = ", ".join([f"entry {at + 1}", *map(str, names)])
            return f"{where} {rule_of(found['msg'])}"
    return f"it {rule_of(found['msg'])}"


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what differs when a file has changed; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def roles_of(names: Iterable[str]) -> frozenset[Role]:
    """Return the roles that have these names.

    Raises:
        ValidationError: There is no role of a name.

    >>> sorted(roles_of(["reviewer", "reader"]))
    ['reader', 'reviewer']
    """
    given = set(names)
    for name in given.difference(ROLES):
        raise ValidationError("role", name, "must be one of " + ", ".join(ROLES))
    return frozenset(role for role in ROLES if role in given)
