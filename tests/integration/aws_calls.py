"""Which actions of IAM the calls of a block need: recorded at botocore, which every client of AWS passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import botocore.handlers

from agentmodel.aws._roles import ACTIONS
from agentmodel.dynamo import _fast_client

PARTS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "Get": "GetItem"}


def actions_of(service: str, operation: str, body: dict[str, Any]) -> set[tuple[str, str]]:
    """The actions of one call, each with the kind of resource that IAM checks it against."""
    if operation.startswith("Transact"):  # needs the actions of its parts
        return {
            ("table", f"dynamodb:{PARTS.get(part, f'{part}Item')}") for each in body["TransactItems"] for part in each
        }
    if service == "redshift-data":
        found = {("workgroup" if operation == "ExecuteStatement" else "statement", f"{service}:{operation}")}
        if "WorkgroupName" in body:  # the service logs in with the caller's identity
            found.add(("workgroup", "redshift-serverless:GetCredentials"))
        return found
    return {("index" if "IndexName" in body else "table", f"{service}:{operation}")}


def allowed(part: str) -> set[tuple[str, str]]:
    """What the role of a part allows, in the same form."""
    return {(kind, action) for kind, actions in ACTIONS[part].items() for action in actions}


@contextmanager
def recorded() -> Iterator[set[tuple[str, str]]]:
    """Collect the actions of all calls by clients that are made inside the block."""
    found: set[tuple[str, str]] = set()

    def record(model: Any, params: dict[str, Any], **_: Any) -> None:
        found.update(actions_of(model.service_model.service_name, model.name, json.loads(params.get("body") or b"{}")))

    entry = ("before-call", record)  # each new session registers these
    botocore.handlers.BUILTIN_HANDLERS.append(entry)
    _fast_client._handlers.cache_clear()  # ours copy them
    try:
        yield found
    finally:
        botocore.handlers.BUILTIN_HANDLERS.remove(entry)
        _fast_client._handlers.cache_clear()
