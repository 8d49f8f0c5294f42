"""Derive a category from each request that has none, and store it.

A refresh does so between loading the base tables and building executions, in its transaction. It reads the requests
that have no assignment yet, and of their users the newest founders, so that it costs in proportion to what is new.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, insert

from agentmodel._values.categories import MAX_FOUNDERS, Founders, compared_text
from agentmodel._values.text import words_of
from agentmodel.redshift import models as m
from agentmodel.redshift._constructs import Rows, constant
from agentmodel.redshift._requests_sql import unassigned_requests
from agentmodel.redshift.models import rows_of

__all__ = ["derive_categories"]

_READ: Final = 20_000  # requests that are read at once
_COMPARED: Final = 200  # requests whose users' founders are read at once
_STORED: Final = 25  # assignments in one INSERT: the Data API takes 100 KB

_UserDomain = tuple[str, str]


def derive_categories(connection: Connection, *, affected: bool) -> None:
    """Store a category for each request that has neither a typed nor a derived one.

    A request without a letter or a digit gets the empty category.

    Args:
        connection: The transaction of the refresh.
        affected: Whether only the affected sessions are looked at.
    """
    unassigned = unassigned_requests(affected=affected).limit(_READ)
    while rows := _read(connection, unassigned):
        first: dict[tuple[str, str], tuple[str, str, str, str]] = {}
        for user, domain, request_key, request in rows:
            first.setdefault((user, request_key), (user, request_key, domain, request))
        for some in _parts(list(first.values()), _COMPARED):
            for assigned in _parts(_assigned(connection, some), _STORED):
                connection.execute(insert(m.DerivedCategory).values(assigned))


def _read(connection: Connection, rows: Rows) -> Sequence[Any]:
    return connection.execute(rows).all()


def _parts(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _assigned(connection: Connection, requests: Sequence[tuple[str, str, str, str]]) -> list[dict[str, Any]]:
    """Return the rows to store for requests, each a user, the key of the request, a domain and the request."""
    users = {user for user, _, _, _ in requests}
    texts = [compared_text(request) for _, _, _, request in requests]
    forms = list(map(_form_key, texts))
    known = _known(connection, users, set(forms))
    founders, numbers = _founders(connection, users)
    assigned = []
    for (user, request_key, domain, _), text, form in zip(requests, texts, forms, strict=True):
        founder = None
        category = known.get((user, form))
        if category is None:
            category = founders[user, domain].nearest(text) if form else ""
            if category is None:
                category, founder = founders[user, domain].found(text), text
                numbers[user, domain] += 1
            known[user, form] = category
        assigned.append(
            {
                "user_id": user,
                "request_key": request_key,
                "form_key": form,
                "domain_id": domain,
                "category": category,
                "founder": founder,
                "number": 0 if founder is None else numbers[user, domain],
            }
        )
    return assigned


def _known(connection: Connection, users: set[str], forms: set[str]) -> dict[tuple[str, str], str]:
    """Return the categories of requests that have the same letters, by user and `_form_key`."""
    d = m.DerivedCategory
    rows = rows_of(d.user_id, d.form_key, d.category).where(d.user_id.in_(sorted(users)), d.form_key.in_(sorted(forms)))
    return {(user, form): category for user, form, category in _read(connection, rows)}


def _founders(connection: Connection, users: set[str]) -> tuple[dict[_UserDomain, Founders], dict[_UserDomain, int]]:
    """Return the newest founders by user and domain, and the highest of their numbers."""
    d = m.DerivedCategory
    place = func.row_number().over(partition_by=[d.user_id, d.domain_id], order_by=d.number.desc()).label("place")
    ranked = (
        rows_of(d.user_id, d.domain_id, d.category, d.founder, d.number, place)
        .where(d.user_id.in_(sorted(users)), d.founder.is_not(None))
        .subquery("ranked")
    )
    names = ("user_id", "domain_id", "category", "founder", "number")
    rows = rows_of(*(ranked.c[name] for name in names)).where(ranked.c.place <= constant(MAX_FOUNDERS))
    found: dict[_UserDomain, list[tuple[str, str]]] = defaultdict(list)
    numbers: dict[_UserDomain, int] = defaultdict(int)
    for user, domain, category, founder, number in _read(connection, rows.order_by(ranked.c.number)):
        found[user, domain].append((category, founder))
        numbers[user, domain] = number
    return defaultdict(Founders, {where: Founders(each) for where, each in found.items()}), numbers


def _form_key(text: str) -> str:
    """Return the key of a request's letters; empty where it has none."""
    words = words_of(text)
    return hashlib.blake2b(" ".join(words).encode(), digest_size=16).hexdigest() if words else ""
