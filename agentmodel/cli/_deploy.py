"""The command `deploy template`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentmodel.aws import template as aws
from agentmodel.cli._options import Json
from agentmodel.cli._output import Output
from agentmodel.cli._read import check_files

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
            (folder / name).write_text(text, encoding="utf-8")
        if as_json:
            out.data({"folder": str(folder), "written": list(files)})
        else:
            out.line(f"Wrote {', '.join(files)} into {folder}.")
    elif as_json:
        out.data(aws.template())
    else:
        typer.echo("".join(files.values()), nl=False)


def add(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.add_typer(deploy, name="deploy")
