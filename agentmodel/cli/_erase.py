"""`agentmodel erase`: erase a person's data from every store."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agentmodel import keys
from agentmodel.cli._model import open_model
from agentmodel.cli._options import Json, User, stack_of
from agentmodel.cli._output import Output
from agentmodel.client import AgentModel
from agentmodel.erasure import ErasureReport
from agentmodel.exceptions import ValidationError

__all__ = ["add"]

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation before erasing.")]


def erase(ctx: typer.Context, user: User, *, yes: Yes = False, as_json: Json = False) -> None:
    """Erase a person's data from the table, Valkey and the warehouse.

    Everything that was recorded of the user until now is removed; it cannot be undone. Prints what was removed, and
    what remains until when, such as backups. An erasure that was stopped is finished by running the command again.
    """
    out = Output(as_json=as_json)
    user_id = keys.id_of("USR", user, field="USER")
    if not (yes or sys.stdin.isatty()):
        raise ValidationError("--yes", yes, "must be given, because it cannot be undone and nobody can be asked here")
    with open_model(stack_of(ctx), changes_warehouse=True) as model:
        if not yes:
            question = f"Erase {user_id}, who has {_held(model, user_id)}? It cannot be undone."
            typer.confirm(question, abort=True, err=True)
        with out.progress("erase") as update:
            report = model.erase_user(user_id, progress=update)
    if as_json:
        out.data(report)
    else:
        _show(out, report)


def _held(model: AgentModel, user_id: str) -> str:
    """Return how many sessions and mappings a user has, as text."""
    counts = []
    for read in (model.repository.sessions, model.repository.user_mappings):
        count, cursor = 0, None
        while True:
            page = read(user_id, limit=1000, cursor=cursor)
            count, cursor = count + len(page), page.cursor
            if cursor is None:
                break
        counts.append(count)
    return f"{counts[0]} sessions and {counts[1]} learned mappings"


def _show(out: Output, report: ErasureReport) -> None:
    told = "Erased {user}: everything that was recorded before {at} UTC."
    out.tell(told, user=report.user_id, at=f"{report.erased_at:%Y-%m-%d %H:%M:%S}")
    rows = [(store, what, count) for store, counts in report.removed.items() for what, count in counts.items()]
    out.table("Removed", ("store", "what", "number>"), rows, empty="Nothing was left to remove.")
    remaining = [(left.where, left.what, left.until) for left in report.remaining]
    out.table("What remains", ("where", "what", "until"), remaining, empty="Nothing.")


def add(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(erase)
