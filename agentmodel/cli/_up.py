"""`agentmodel up`: run the embedded engines until Ctrl-C, and drain the journal meanwhile."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from agentmodel._urls import without_secrets
from agentmodel.cli._console import DEFAULT_PORT, serving
from agentmodel.cli._options import stack_of
from agentmodel.cli._output import Output
from agentmodel.cli._signals import stop_event
from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.embedded import Engines
from agentmodel.exceptions import Unavailable

__all__ = ["add"]

_SAVE_SECONDS = 60.0  # between two saves of the tables; a killed stack loses what it drained after the last one


def up(
    ctx: typer.Context,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Folder to keep the data in. [default: .agentmodel]")
    ] = None,
    with_console: Annotated[
        bool, typer.Option("--console", help="Serve the console too, for this machine only, at --console-port.")
    ] = False,
    console_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the console.")] = DEFAULT_PORT,
) -> None:
    """Run a local Valkey, DynamoDB server and DuckDB until Ctrl-C.

    Creates the table and drains the journal in the background. Other commands find the stack through its folder. For
    an address that an AGENTMODEL_… setting names, no engine is started. When it stops, it drains the journal to the
    last entry and saves the tables.
    """
    out = Output()
    with stop_event() as stop:
        folder = directory or stack_of(ctx)
        with Engines(folder, settings=Settings.load()) as engines, AgentModel.from_settings(engines.settings) as model:
            model.table.create()
            with serving(model, port=console_port) if with_console else nullcontext() as address:
                _show_addresses(out, engines, address)
                left = _drain_until(stop, model, engines, out)
    if left:
        raise typer.Exit(1)
    out.tell("Stopped.")


def _show_addresses(out: Output, engines: Engines, console: str | None) -> None:
    settings = engines.settings
    out.table(
        out.say("The stack of {folder}", folder=engines.directory),
        ("store", "address"),
        [
            ("cache (Valkey)", without_secrets(settings.valkey_url or "")),
            ("dynamo (DynamoDB)", f"{without_secrets(settings.endpoint or '')}, table {settings.table}"),
            ("redshift (DuckDB)", without_secrets(settings.warehouse_url or "")),
            *([] if console is None else [("console", console)]),
        ],
    )
    out.tell("Ready. Run other commands in another terminal. Ctrl-C drains the journal, saves the tables and stops.")


def _drain_until(stop: threading.Event, model: AgentModel, engines: Engines, out: Output) -> bool:
    """Drain in a thread until the event is set, then to the end; return whether something is left in the journal.

    The DynamoDB server keeps what is drained in memory, so the tables are saved at intervals.
    """
    drainer = model.drainer
    worker = threading.Thread(target=drainer.run, args=(stop,), name="agentmodel-up-drain")
    worker.start()
    while not stop.wait(_SAVE_SECONDS):
        engines.save()
    out.tell("Stopping: draining the journal.")
    worker.join()
    try:
        done = model.drain()
    except Unavailable as error:
        out.note(
            f"error: the journal could not be drained: {error}; its entries stay in Valkey and are drained when "
            "`agentmodel up` runs again"
        )
        return True
    if done.left:
        out.note(f"error: the journal still holds entries ({done.left}): run `agentmodel up` again to drain them")
    return bool(done.left)


def add(app: typer.Typer) -> None:
    """Add the command `up` to the application."""
    app.command()(up)
