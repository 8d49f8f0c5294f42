"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentmodel.cli._model import DEFAULT_STACK

__all__ = [
    "AsOf",
    "Cursor",
    "Domain",
    "Files",
    "Json",
    "JsonLine",
    "Limit",
    "Since",
    "Timezone",
    "User",
    "Wait",
    "WithIds",
    "stack_of",
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
JsonLine = Annotated[bool, typer.Option("--json", help="Print what is served as one line of JSON on stdout.")]
WithIds = Annotated[bool, typer.Option("--ids", help="Show ids too, whole.")]
AsOf = Annotated[
    str | None,
    typer.Option(
        metavar="DAY", help="Compute as of this day, or time with UTC offset, such as 2025-06-14. [default: now]"
    ),
]
Domain = Annotated[
    str | None, typer.Option(metavar="ID", help="Use only this domain, named by its id, such as DMN001.")
]
User = Annotated[str, typer.Argument(metavar="USER", help="Id or name of the user: USRmina or mina.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="Trace files: JSON lines, plain or gzip.")]
Timezone = Annotated[
    str, typer.Option(metavar="ZONE", help="Time zone of times without a UTC offset, such as Asia/Seoul.")
]
Wait = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="Seconds to wait where another process does the same work; 0 does not wait."),
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only since then: 30m, 12h, 1d or 2w ago, or a day such as 2025-06-14."),
]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Show at most this many.")]
Cursor = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Show the next page, from the cursor that the page before printed.")
]


def stack_of(ctx: typer.Context) -> Path:
    """Return the folder of the stack that the command line names."""
    found = ctx.find_root().obj
    return found if isinstance(found, Path) else DEFAULT_STACK
