"""`agentmodel up`: the embedded engines, running until they are told to stop, and drained all the while."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from agentmodel.cli._options import stack_of
from agentmodel.cli._output import Output
from agentmodel.cli._signals import stop_asked
from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.embedded import Engines
from agentmodel.exceptions import Unavailable

__all__ = ["add"]

_SAVE_SECONDS = 60.0  # between two saves: what a killed stack may lose of its tables


def up(
    ctx: typer.Context,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Folder to keep the data in; .agentmodel if not given.")
    ] = None,
) -> None:
    """Keep Valkey, a DynamoDB server and DuckDB running.

    Until Ctrl-C, with the table made, and the journal drained all the while. The other commands find them through the
    folder. An address that an AGENTMODEL_… setting names is used as it is, and no engine is started for it. At the end
    the journal is drained to the last entry, then the tables are saved.
    """
    out = Output()
    with stop_asked() as stop:
        folder = directory or stack_of(ctx)
        with (
            Engines(folder, settings=Settings.load()) as engines,
            AgentModel.from_settings(engines.settings) as model,
        ):
            model.table.create()
            _tell(out, engines)
            left = _drained_until(stop, model, engines, out)
    if left:
        raise typer.Exit(1)
    out.line("stopped")


def _tell(out: Output, engines: Engines) -> None:
    settings = engines.settings
    out.table(
        f"agentmodel runs in {engines.directory}",
        ("station", "where"),
        [
            ("cache (Valkey)", settings.valkey_url),
            ("dynamo (DynamoDB)", f"{settings.endpoint}, table {settings.table}"),
            ("redshift (DuckDB)", settings.warehouse_url),
        ],
    )
    out.line("ready: Ctrl-C drains the journal, saves the tables and stops")


def _drained_until(stop: threading.Event, model: AgentModel, engines: Engines, out: Output) -> bool:
    """Drain in a thread until the stop is asked for, then to the end; whether something is left in the journal.

    What is drained is in the memory of the DynamoDB server, so the tables are saved now and then.
    """
    drainer = model.drainer
    worker = threading.Thread(target=drainer.run, args=(stop,), name="agentmodel-up-drain")
    worker.start()
    while not stop.wait(_SAVE_SECONDS):
        engines.save()
    out.line("stopping: draining the journal")
    worker.join()
    try:
        done = model.drain()
    except Unavailable as error:
        out.note(f"error: the journal is not drained, it stays in Valkey for the next start: {error}")
        return True
    if done.left:
        out.note(f"error: {done.left} entries are left in the journal: start again, or run `agentmodel drain`")
    return bool(done.left)


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(up)
