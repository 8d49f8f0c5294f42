"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentmodel.cli._model import STACK

__all__ = ["AsOf", "Domain", "Files", "Json", "Limit", "Timezone", "User", "stack_of"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
AsOf = Annotated[
    str | None,
    typer.Option(metavar="DAY", help="Count recency to this day (or time with offset), not to today (UTC)."),
]
Domain = Annotated[str | None, typer.Option(metavar="ID", help="Only this domain, such as DMN001.")]
User = Annotated[str, typer.Argument(metavar="USER", help="Id of the user, such as USR001.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="Trace files, JSON lines, gzip or not.")]
Timezone = Annotated[
    str, typer.Option(metavar="ZONE", help="Zone of the times that name no offset, such as Asia/Seoul.")
]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="The most rows to show.")]


def stack_of(ctx: typer.Context) -> Path:
    """The stack's folder that the command line names."""
    found = ctx.find_root().obj
    return found if isinstance(found, Path) else STACK
