"""Who calls the MCP server: a user and roles, given by the installation, never by an argument of a call."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic import ValidationError as Invalid

from agentmodel import keys
from agentmodel.exceptions import ConfigurationError, ValidationError

__all__ = ["ROLES", "Caller", "Role", "Tokens", "roles_of"]

_log = logging.getLogger("agentmodel.mcp")

Role = Literal["reader", "recorder", "reviewer", "operator"]
"""What a caller may do: read, record, decide; an operator reads and records for every user, but decides nothing."""

ROLES: tuple[Role, ...] = get_args(Role)


class Caller(BaseModel):
    """Who calls.

    Attributes:
        user_id: The user whose sessions it may see and record.
        roles: What it may do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: str
    roles: frozenset[Role]

    def need(self, *roles: Role) -> None:
        """Refuse unless the caller has one of these roles."""
        if not self.roles.intersection(roles):
            raise ToolError(f"not allowed: this needs the role {' or '.join(roles)}, which the caller does not have")

    def scope(self, asked: str | None, *roles: Role) -> str:
        """The user that a call is about: the caller's own, or for an operator whom it names."""
        self.need(*roles, "operator")
        if asked is None or asked == self.user_id:
            return self.user_id
        if "operator" not in self.roles:
            raise ToolError(
                "not allowed: the caller may only see and record its own user's sessions; leave user_id out"
            )
        return asked


class _Entry(Caller):
    """A line of the token file: the SHA-256 of a token, whose it is, and from when on it is no more."""

    user_id: Annotated[str, AfterValidator(lambda given: keys.check_id("user_id", given, "USR"))]
    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")]
    expires_at: AwareDatetime | None = None


class Tokens:
    """Verifies bearer tokens by their SHA-256.

    Args:
        entries: Hash, user, roles and end of each token.
        now: Gives the present time.
    """

    def __init__(self, entries: Iterable[_Entry], *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._entries = tuple(entries)
        self._now = now
        self._path: Path | None = None
        self._read: tuple[int, int, int] | None = None

    @classmethod
    def of_file(cls, path: str | Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Tokens:
        """Read a file such as ``[{"sha256": "…", "user_id": "USR001", "roles": ["reader"]}]``.

        It is read again when it has changed, so that a token is withdrawn without a restart. While the changed file
        cannot be read, nobody is let in.

        Raises:
            ConfigurationError: It cannot be read, or is none.
        """
        tokens = cls((), now=now)
        tokens._path = Path(path)
        tokens._reread(tokens._path)
        return tokens

    def _reread(self, path: Path) -> None:
        self._read, self._entries = None, ()
        try:
            read = _state(path)
            entries = TypeAdapter(list[_Entry]).validate_python(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            told = _first(error) if isinstance(error, Invalid) else error
            raise ConfigurationError(f"the token file {path} cannot be used: {told}") from None
        self._read, self._entries = read, tuple(entries)

    def _current(self) -> tuple[_Entry, ...]:
        """The entries as the file has them now."""
        if self._path is not None and (self._read is None or self._read != _state(self._path)):
            try:
                self._reread(self._path)
            except ConfigurationError as error:
                _log.error("mcp.tokens: nobody is let in: %s", error)
        return self._entries

    async def verify_token(self, token: str) -> AccessToken | None:
        """Whose token it is; None where it is unknown, withdrawn or at its end."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        found = None
        for entry in self._current():  # every one is compared, so that the time tells nothing
            if hmac.compare_digest(entry.sha256.lower().encode(), digest.encode()):
                found = entry
        if found is None or (found.expires_at is not None and found.expires_at <= self._now()):
            return None
        return AccessToken(token=token, client_id=digest[:16], scopes=sorted(found.roles), subject=found.user_id)


def _first(error: Invalid) -> str:
    """What is wrong first with a token file, and where; never a value, which may be a token."""
    found = error.errors()[0]
    match found["loc"]:
        case (int(at), *names):
            where = ", ".join([f"entry {at + 1}", *map(str, names)])
            return f"{where}: {found['msg']}"
    return found["msg"]


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def roles_of(names: Iterable[str]) -> frozenset[Role]:
    """Roles by name.

    Raises:
        ValidationError: One is unknown.
    """
    given = set(names)
    for name in given.difference(ROLES):
        raise ValidationError("role", name, "one of " + ", ".join(ROLES))
    return frozenset(role for role in ROLES if role in given)
