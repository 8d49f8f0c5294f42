"""`agentmodel export`: write history, scores and patterns as Parquet."""

from __future__ import annotations

from typing import Annotated

import typer

from agentmodel.cli._model import open_model
from agentmodel.cli._options import Json, stack_of
from agentmodel.cli._output import Output

__all__ = ["add"]


def export(
    ctx: typer.Context,
    *,
    to: Annotated[
        str, typer.Option("--to", metavar="DIR|s3://…", help="Folder, or bucket and prefix, to write the files into.")
    ],
    full: Annotated[bool, typer.Option("--full", help="Write every file anew, not only those that changed.")] = False,
    as_json: Json = False,
) -> None:
    """Export history, scores and patterns as Parquet, as of the last refresh.

    Run again with the same --to, it writes the months anew that changed, and removes what was erased since. It needs
    `pip install 'agentmodel[arrow]'`.
    """
    out = Output(as_json=as_json)
    with open_model(stack_of(ctx)) as model, out.progress("export") as update:
        report = model.export(to, full=full, progress=update)
    if as_json:
        out.data(report)
        return
    rows = [(table, count, report.written[table]) for table, count in report.rows.items()]
    out.table(out.say("The export in {folder}", folder=report.to), ("table", "rows", "written now"), rows)
    if report.seen_until is None:
        out.tell("It has nothing, because there was no refresh yet. Files removed: {removed}.", removed=report.removed)
    else:
        told = "It has what the last refresh had read, until {seen} UTC. Files removed: {removed}."
        out.tell(told, seen=f"{report.seen_until:%Y-%m-%d %H:%M:%S}", removed=report.removed)


def add(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(export)
