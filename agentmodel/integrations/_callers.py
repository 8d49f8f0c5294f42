"""Who calls the MCP server: a user and roles, given by the installation, never by an argument of a call."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic import ValidationError as Invalid

from agentmodel.exceptions import ConfigurationError, ValidationError

__all__ = ["ROLES", "Caller", "Role", "Tokens", "roles_of"]

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
    """A line of the token file: the SHA-256 of a token, and whose it is."""

    sha256: str


class Tokens:
    """Verifies bearer tokens by a file that holds only their SHA-256.

    Args:
        entries: Hash, user and roles of each token.
    """

    def __init__(self, entries: Iterable[_Entry]) -> None:
        self._entries = tuple(entries)

    @classmethod
    def of_file(cls, path: str | Path) -> Tokens:
        """Read a file such as ``[{"sha256": "…", "user_id": "USR001", "roles": ["reader"]}]``.

        Raises:
            ConfigurationError: It cannot be read, or is none.
        """
        try:
            entries = TypeAdapter(list[_Entry]).validate_python(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            told = error.errors()[0]["msg"] if isinstance(error, Invalid) else error
            raise ConfigurationError(f"the token file {path} cannot be used: {told}") from None
        return cls(entries)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Whose token it is, or None."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        found = None
        for entry in self._entries:  # every one is compared, so that the time tells nothing
            if hmac.compare_digest(entry.sha256.lower().encode(), digest.encode()):
                found = entry
        if found is None:
            return None
        return AccessToken(token=token, client_id=digest[:16], scopes=sorted(found.roles), subject=found.user_id)


def roles_of(names: Iterable[str]) -> frozenset[Role]:
    """Roles by name.

    Raises:
        ValidationError: One is unknown.
    """
    given = set(names)
    for name in given.difference(ROLES):
        raise ValidationError("role", name, "one of " + ", ".join(ROLES))
    return frozenset(role for role in ROLES if role in given)
