"""`agentmodel up`: run the embedded engines until Ctrl-C; drain the journal and learn meanwhile."""

from __future__ import annotations

import threading
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from agentmodel._values.urls import without_secrets
from agentmodel.callers import is_loopback
from agentmodel.cli._console import DEFAULT_PORT, serving
from agentmodel.cli._model import parse_span
from agentmodel.cli._options import JsonLine, stack_of
from agentmodel.cli._output import Output
from agentmodel.cli._signals import stop_event
from agentmodel.cli._up_learning import Learning
from agentmodel.cli._upgrade import upgrade
from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.embedded import Engines
from agentmodel.exceptions import Unavailable, ValidationError

__all__ = ["add"]

_SAVE_SECONDS = 60.0  # between two saves of the tables; a killed stack loses what it drained after the last one


def up(
    ctx: typer.Context,
    *,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Folder to keep the data in. [default: .agentmodel]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65534,
            help="Port of Valkey; that of the DynamoDB server is the next one. [default: those of the last start]",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="IPv4 address or name that Valkey and the DynamoDB server listen on. They ask for no password.",
        ),
    ] = "127.0.0.1",
    learn_every: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How often to refresh and publish, such as 30m or 1d; 0 is never. It does so soon after the first "
            "sessions too. [default: 1h; never where a setting names table or warehouse]",
        ),
    ] = None,
    with_console: Annotated[
        bool, typer.Option("--console", help="Serve the console too, for this machine only, at --console-port.")
    ] = False,
    console_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the console.")] = DEFAULT_PORT,
    as_json: JsonLine = False,
) -> None:
    """Run a local Valkey, DynamoDB server and DuckDB until Ctrl-C.

    Creates the table, and in the background drains the journal and learns from the history. Other commands find the
    stack through its folder. For an address that an AGENTMODEL_… setting names, no engine is started. When it stops, it
    drains the journal to the last entry and saves the tables.
    """
    out, own = Output(as_json=as_json), Settings.load()
    is_ours = own.endpoint is None and own.warehouse_url is None
    every = _seconds(learn_every or ("1h" if is_ours else "0"))
    if not is_loopback(host):
        out.note(
            f"warning: Valkey and the DynamoDB server listen on {host} without a password: whoever reaches that "
            "address reads and changes everything"
        )
    with stop_event() as stop:
        folder = directory or stack_of(ctx)
        with Engines(folder, settings=own, host=host, port=port) as engines:
            changes, backup = upgrade(engines, folder, own=own)
            if backup is not None:
                tell = out.note if as_json else out.line
                tell(
                    out.say("Upgraded the data of an earlier version. A backup from before is in {path} .", path=backup)
                )
                for change in changes:
                    tell(f"  {change.table}: {change.text}")
            with AgentModel(engines.settings, engines=engines) as model:
                learning = Learning(model, every=every, out=out)
                model.table.create()
                if own.warehouse_url is None:
                    _share(model, learning)
                with serving(model, port=console_port) if with_console else nullcontext() as address:
                    _show_addresses(out, engines, address)
                    left = _drain_until(stop, model, engines, out, learning)
    if left:
        raise typer.Exit(1)
    if not as_json:
        out.tell("Stopped.")


def _share(model: AgentModel, learning: Learning) -> None:
    """Let other processes read the warehouse."""
    with closing(model.warehouse) as warehouse:
        warehouse.share()
        if not warehouse.has_landed():
            learning.soon()  # there may be records of a program that ran here before


def _seconds(text: str) -> float:
    """Return the seconds of ``--learn-every``; 0 for never."""
    try:
        span = parse_span(text)
    except OverflowError:
        span = None
    if text != "0" and (span is None or not span):
        raise ValidationError("--learn-every", text, "must be a span such as 30m, 1h or 1d, or 0 for never")
    return 0.0 if span is None else span.total_seconds()


def _show_addresses(out: Output, engines: Engines, console: str | None) -> None:
    settings = engines.settings
    valkey, endpoint, warehouse = (
        without_secrets(url or "") for url in (settings.valkey_url, settings.endpoint, settings.warehouse_url)
    )
    if out.as_json:
        out.json_line(
            directory=str(engines.directory), valkey=valkey, dynamodb=endpoint, table=settings.table,
            warehouse=warehouse, console=console,
        )  # fmt: skip
        return
    out.table(
        out.say("The stack of {folder}", folder=engines.directory),
        ("store", "address"),
        [
            ("cache (Valkey)", valkey),
            ("dynamo (DynamoDB)", f"{endpoint}, table {settings.table}"),
            ("redshift (DuckDB)", warehouse),
            *([] if console is None else [("console", console)]),
        ],
    )
    out.tell("Ready. Run other commands in another terminal. Ctrl-C drains the journal, saves the tables and stops.")


def _drain_until(stop: threading.Event, model: AgentModel, engines: Engines, out: Output, learning: Learning) -> bool:
    """Drain and learn in threads until the event is set, then drain to the end; return whether something is left.

    The DynamoDB server keeps what is drained in memory, so the tables are saved at intervals.
    """
    drainer = model.drainer
    workers = [
        threading.Thread(
            target=drainer.run, args=(stop,), kwargs={"progress": learning.drained}, name="agentmodel-up-drain"
        ),
        threading.Thread(target=learning.run, args=(stop,), name="agentmodel-up-learn"),
    ]
    for worker in workers:
        worker.start()
    while not stop.wait(_SAVE_SECONDS):
        engines.save()
    if not out.as_json:
        out.tell("Stopping: draining the journal.")
    for worker in workers:
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
