"""The commands `deploy template` and `deploy units`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from agentmodel._runtime.files import write_file
from agentmodel.aws import template as aws
from agentmodel.cli._options import Json
from agentmodel.cli._output import Output
from agentmodel.cli._read import check_files
from agentmodel.cli._units import Volume, priced, usage
from agentmodel.exceptions import ConfigurationError

__all__ = ["add"]

deploy = typer.Typer(help="Deploy to AWS.", rich_markup_mode=None)


@deploy.callback()
def group() -> None:
    """Deploy to AWS."""


@deploy.command()
def template(
    *,
    folder: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Write the template into this folder, as template.yaml.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare with the file in --to (or deploy/) instead; exit with 1 if it differs."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Print or write the CloudFormation template for AWS.

    It has the SAM transform; `aws cloudformation deploy` and `sam deploy` take it. With --json it is printed as JSON.
    """
    out = Output(as_json=as_json)
    if check:
        compared = Path("deploy") if folder is None else folder
        check_files(compared, aws.drift(compared), out, command="deploy template")
        return
    files = aws.rendered()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_file(folder / name, text)
        if as_json:
            out.data({"folder": str(folder), "written": list(files)})
        else:
            out.tell("Wrote {files} into {folder}.", files=", ".join(files), folder=folder)
    elif as_json:
        out.data(aws.template())
    else:
        typer.echo("".join(files.values()), nl=False)


@deploy.command()
def units(
    *,
    calls: Annotated[int, typer.Option(metavar="N", min=0, help="Tool calls in a month.")],
    calls_of_session: Annotated[float, typer.Option(metavar="N", help="Calls in a session.")] = 4.0,
    steps_of_session: Annotated[float, typer.Option(metavar="N", help="Processes in a session.")] = 3.0,
    call_kb: Annotated[float, typer.Option("--call-kb", metavar="KB", help="KB of a call's item.")] = 0.6,
    sessions_of_mapping: Annotated[
        float, typer.Option(metavar="N", help="Sessions in a month for each category of a user.")
    ] = 10.0,
    moved: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of sessions whose expiry a publish moves; 0 with equal TTLs.")
    ] = 1.0,
    peak: Annotated[float, typer.Option(metavar="N", help="How many times the average the busiest second has.")] = 10.0,
    refreshes: Annotated[int, typer.Option(metavar="N", min=0, help="Refreshes in a month.")] = 720,
    refresh_seconds: Annotated[float, typer.Option(metavar="S", help="Seconds of a refresh.")] = 60.0,
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON file of prices by unit, with the day they were read.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute what a month on AWS uses, in the units that AWS bills, and what it costs at your prices."""
    volume = Volume(
        calls=calls, calls_of_session=calls_of_session, steps_of_session=steps_of_session, call_kb=call_kb,
        sessions_of_mapping=sessions_of_mapping, moved=moved, peak=peak, refreshes=refreshes,
        refresh_seconds=refresh_seconds,
    )  # fmt: skip
    rows, out = usage(volume), Output(as_json=as_json)
    given = None if prices is None else _read_prices(prices)
    if given is not None:
        rows = priced(rows, given)
    if as_json:
        out.data(rows)
        return
    cells = [
        (row.unit, f"{row.amount:,.1f}", "" if row.cost is None else f"{row.cost:,.2f}", out.say(row.made_of))
        for row in rows
    ]
    out.table(out.say("{calls} calls a month", calls=f"{calls:,}"), ("unit", "amount>", "cost>", "made of"), cells)
    if given is not None:
        known = [row.cost for row in rows if row.cost is not None]
        told = "Sum of {units} units with a price, as of {day}: {total}."
        out.tell(told, units=len(known), day=given["as_of"], total=f"{sum(known):,.2f}")


def _read_prices(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the file of prices {file} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"the file of prices {file} must hold an object with as_of and prices")
    return found


def add(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.add_typer(deploy, name="deploy")
