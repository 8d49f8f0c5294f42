"""Rows of requests: what a publish ships of each mapping, so that similar requests of all users are found.

A row is named by the mapping's user and category. It has the requests that the mapping is found by, how often it was
run and succeeded, and the signatures of the requests, in base64.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, NamedTuple

from agentmodel.dynamo.models import UserToolMapping
from agentmodel.suggest._signatures import BYTES, letters_of, sign

__all__ = ["LoadedRow", "checked", "content_of", "mapping_of", "request_row", "row_name"]

_MOST = 2**31 - 1  # of a count

Row = list[Any]
"""The requests, executions, successes and signatures, as JSON has them."""


class LoadedRow(NamedTuple):
    """A row as processes keep it.

    Attributes:
        requests: The requests.
        executions: How often the mapping was run.
        successes: How often that succeeded.
        signatures: The signatures of the requests, one after the other.
    """

    requests: list[str]
    executions: int
    successes: int
    signatures: bytes


def row_name(mapping: UserToolMapping) -> str:
    """Return the name of a mapping's row."""
    return f"{mapping.user_id}\n{mapping.category}"


def mapping_of(name: str) -> tuple[str, str]:
    """Return the user and the category of a row."""
    user_id, _, category = name.partition("\n")
    return user_id, category


def content_of(mapping: UserToolMapping) -> tuple[list[str], int, int]:
    """Return what a row has of a mapping: requests, executions and successes."""
    executions, successes = (min(max(count or 0, 0), _MOST) for count in (mapping.executions, mapping.successes))
    return list(mapping.requests or ()), executions, successes


def request_row(mapping: UserToolMapping, known: Row | None = None) -> Row:
    """Return the row of a mapping; the signatures of a known row are taken over if it has the same requests."""
    requests, executions, successes = content_of(mapping)
    if known is not None and known[0] == requests:
        return [requests, executions, successes, known[3]]
    signatures = b"".join(sign(letters_of(request)) for request in requests)
    return [requests, executions, successes, b64encode(signatures).decode()]


def checked(name: str, row: Any) -> LoadedRow:
    """Return a row as processes keep it.

    Raises:
        ValueError: It is not what `request_row` returns.
    """
    match row:
        case [list(requests), int(executions), int(successes), str(signatures)]:
            data = b64decode(signatures, validate=True)
            named = name.startswith("USR") and all(mapping_of(name))
            counted = 0 <= executions <= _MOST and 0 <= successes <= _MOST
            if (
                named
                and counted
                and all(isinstance(each, str) for each in requests)
                and len(data) == BYTES * len(requests)
            ):
                return LoadedRow(requests, executions, successes, data)
    raise ValueError("not a row of requests")
